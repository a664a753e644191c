// Small files that ask for large results.
#include "importer/limits.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <ctime>

#include "base/testing/errors.h"
#include "importer/model_builder.h"
#include "importer/onnx.h"
#include "torusml/error.h"

namespace torusml {
namespace {

constexpr std::int64_t kSide = std::int64_t{1} << 14, kMostElements = std::int64_t{1} << 24,
                       kMostTaps = std::int64_t{1} << 25;

struct Case {
  std::string op_type;
  GraphBuilder graph;
  std::int64_t elements, limit;
  friend void PrintTo(const Case& c, std::ostream* out) { *out << c.op_type; }
};

BuiltTensor integers(const std::string& name, const std::vector<std::int64_t>& values) {
  return BuiltTensor::integers(name, values);
}

// A node 'big' on an input 'x' and a constant 'c' of integers.
Case of_input(const std::string& op_type, const std::vector<std::int64_t>& x,
              const std::vector<std::string>& operands, const std::vector<std::int64_t>& c,
              const std::vector<std::pair<std::string, std::int64_t>>& attributes = {}) {
  return {op_type,
          GraphBuilder()
              .input("x", x)
              .node(op_type, operands, {"y"}, attributes, "", "big")
              .constant(integers("c", c))
              .output("y"),
          kSide * kSide, kMostElements};
}

// A node 'big' on an input 'x' and a tensor 'w' of zeros.
Case of_weights(const std::string& op_type, const std::vector<std::int64_t>& x,
                const std::vector<std::string>& operands, const std::vector<std::int64_t>& w) {
  return {op_type,
          GraphBuilder()
              .input("x", x)
              .node("ConstantOfShape", {"shape"}, {"w"})
              .node(op_type, operands, {"y"}, {}, "", "big")
              .constant(integers("shape", w))
              .output("y"),
          kSide * kSide, kMostElements};
}

// A node 'big' on one place with so much padding around it that its windows have kSide^2 places.
Case of_padding(const std::string& op_type, const std::vector<std::string>& operands) {
  return {op_type,
          GraphBuilder()
              .input("x", {1, 1, 1, 1})
              .node(op_type, operands, {"y"}, {}, "", "big",
                    {{"kernel_shape", {1, 1}}, {"pads", {0, 0, kSide - 1, kSide - 1}}})
              .constant(BuiltTensor::floats("w", {1, 1, 1, 1}, {1}))
              .output("y"),
          kSide * kSide, kMostElements};
}

// A node 'big' whose one window has kSide^2 places, all but one in the padding.
Case of_window(const std::string& op_type) {
  return {op_type,
          GraphBuilder()
              .input("x", {1, 1, 1, 1})
              .node(op_type, {"x"}, {"y"}, {}, "", "big",
                    {{"kernel_shape", {kSide, kSide}}, {"pads", {0, 0, kSide - 1, kSide - 1}}})
              .output("y"),
          kSide * kSide, kMostTaps};
}

Case of_choice() {
  return {"Where",
          GraphBuilder()
              .input("x", {1, kSide, 1})
              .node("ConstantOfShape", {"shape"}, {"w"})
              .node("Less", {"w", "w"}, {"condition"})
              .node("Where", {"condition", "x", "w"}, {"y"}, {}, "", "big")
              .constant(integers("shape", {1, kSide}))
              .output("y"),
          kSide * kSide, kMostElements};
}

// A node 'big' whose result depends on constants alone. Each element of these raises the limit.
Case of_constants(const std::string& op_type, const std::vector<std::string>& operands,
                  const std::vector<BuiltTensor>& constants,
                  std::int64_t elements = kSide * kSide) {
  Case c{op_type,
         GraphBuilder()
             .input("x", {1, 1})
             .node(op_type, operands, {"p"}, {}, "", "big")
             .node("ReduceMax", {"p"}, {"q"})
             .node("Add", {"x", "q"}, {"y"})
             .output("y"),
         elements, kMostElements};
  for (const BuiltTensor& tensor : constants) {
    c.graph.constant(tensor);
    std::int64_t count = 1;
    for (const std::int64_t size : tensor.dims) count *= size;
    c.limit += 16 * count;
  }
  return c;
}

std::vector<Case> cases() {
  const std::vector<float> side(kSide);
  return {
      of_input("Pad", {1, 1, 1}, {"x", "c"}, {0, 0, 0, 0, kSide - 1, kSide - 1}),
      of_input("Expand", {1, 1, 1}, {"x", "c"}, {1, kSide, kSide}),
      of_input("Tile", {1, 1, 1}, {"x", "c"}, {1, kSide, kSide}),
      of_input("Resize", {1, 1, 4, 4}, {"x", "", "", "c"}, {1, 1, kSide, kSide}),
      of_input("Gather", {1, 1, kSide}, {"x", "c"}, std::vector<std::int64_t>(kSide),
               {{"axis", 1}}),
      of_weights("Add", {1, kSide, 1}, {"x", "w"}, {1, kSide}),
      of_weights("Less", {1, kSide, 1}, {"x", "w"}, {1, kSide}),
      of_weights("MatMul", {1, kSide, 1}, {"x", "w"}, {1, kSide}),
      of_weights("Conv", {1, 1, 128, 128}, {"x", "w"}, {kSide, 1, 1, 1}),
      of_weights("ConvTranspose", {1, 1, 128, 128}, {"x", "w"}, {1, kSide, 1, 1}),
      of_padding("Conv", {"x", "w"}),
      of_padding("MaxPool", {"x"}),
      of_padding("AveragePool", {"x"}),
      of_window("MaxPool"),
      of_window("AveragePool"),
      of_choice(),
      of_constants("ConstantOfShape", {"c"}, {integers("c", {kSide, kSide})}),
      of_constants("ConstantOfShape", {"c"}, {integers("c", {1LL << 20, 1LL << 20})}, 1LL << 40),
      of_constants("Range", {"a", "b", "c"},
                   {integers("a", {0}), integers("b", {kSide * kSide}), integers("c", {1})}),
      of_constants("Expand", {"a", "c"},
                   {BuiltTensor::floats("a", {1}, {1}), integers("c", {kSide, kSide})}),
      of_constants(
          "Gemm", {"a", "b"},
          {BuiltTensor::floats("a", {kSide, 1}, side), BuiltTensor::floats("b", {1, kSide}, side)}),
  };
}

class LargeResult : public ::testing::TestWithParam<Case> {};

// Computing the result would take seconds of the processor.
TEST_P(LargeResult, IsRefusedBeforeItIsComputed) {
  const Case& c = GetParam();
  const std::clock_t begin = std::clock();
  const std::string text =
      error_text(ErrorCode::not_supported, [&] { import_onnx_bytes(c.graph.model(18), "model"); });
  EXPECT_LT(static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC, 0.5);
  for (const std::string& part :
       {fmt::format("node 'big' ({})", c.op_type), fmt::format(" {} elements", c.elements),
        fmt::format("at most {} ", c.limit)})
    EXPECT_NE(text.find(part), std::string::npos) << part << "\n" << text;
}

INSTANTIATE_TEST_SUITE_P(Limits, LargeResult, ::testing::ValuesIn(cases()), [](const auto& info) {
  return fmt::format("{}{}", info.param.op_type, info.index);
});

TEST(ResultLimit, HoldsForTheImportAndNotForBatchesAfterIt) {
  const FloatGraph graph = import_onnx_bytes(GraphBuilder()
                                                 .input("x", {-1, 1})
                                                 .node("ConstantOfShape", {"shape"}, {"w"})
                                                 .node("Add", {"x", "w"}, {"y"})
                                                 .constant(integers("shape", {1 << 14}))
                                                 .output("y")
                                                 .model(18),
                                             "model");
  const std::int64_t samples = (1 << 10) + 1;
  const auto tensors = evaluate(graph, {{{samples, 1}, std::vector<double>(samples)}});
  EXPECT_GT(static_cast<std::int64_t>(tensors.at("y").values.data.size()), kMostElements);
}

// One axis grows before another one shrinks, and a slice takes all of its first axis.
TEST(ResultLimit, IsNotForWhatComesBetween) {
  const FloatGraph resized = import_onnx_bytes(GraphBuilder()
                                                   .input("x", {1, 1, 16, kSide})
                                                   .node("Resize", {"x", "", "", "c"}, {"y"})
                                                   .constant(integers("c", {1, 1, kSide, 16}))
                                                   .output("y")
                                                   .model(18),
                                               "model");
  EXPECT_EQ(resized.shapes.at("y"), (Shape{1, 1, kSide, 16}));
  const FloatGraph sliced = import_onnx_bytes(GraphBuilder()
                                                  .input("x", {1, 1})
                                                  .node("ConstantOfShape", {"c"}, {"p"})
                                                  .node("Slice", {"p", "starts", "ends"}, {"q"})
                                                  .node("ReduceMax", {"q"}, {"r"})
                                                  .node("Add", {"x", "r"}, {"y"})
                                                  .constant(integers("c", {1 << 12, 2049}))
                                                  .constant(integers("starts", {0, 0}))
                                                  .constant(integers("ends", {1 << 12, 1}))
                                                  .output("y")
                                                  .model(18),
                                              "model");
  EXPECT_EQ(sliced.shapes.at("y"), (Shape{1, 1}));
}

TEST(ResultLimit, InnermostCounts) {
  const auto refuse = [](const Shape&) { throw Error(ErrorCode::not_supported, "too large"); };
  const ResultLimit outer(refuse);
  {
    const ResultLimit inner([](const Shape&) {});
    EXPECT_EQ(checked_result({2, 3}), 6);
  }
  EXPECT_EQ(code_of([] { checked_result({2, 3}); }), ErrorCode::not_supported);
  EXPECT_EQ(checked_elements({2, 3}), 6);  // of what is no result
}

TEST(Resize, RefusesAnAxisWithoutElements) {
  error_text(ErrorCode::invalid_model, [] {
    import_onnx_bytes(GraphBuilder()
                          .input("x", {1, 4})
                          .node("Resize", {"a", "", "", "c"}, {"p"})
                          .node("Add", {"x", "p"}, {"y"})
                          .constant(BuiltTensor::floats("a", {1, 0}, {}))
                          .constant(integers("c", {1, 4}))
                          .output("y")
                          .model(18),
                      "model");
  });
}

}  // namespace
}  // namespace torusml
