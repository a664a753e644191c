// In floats a graph and what decompose makes of it are the same, for every model of
// tests/models/operators; what is left are operators that encrypted data can do.

#include "quantization/decompositions.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "importer/onnx.h"
#include "quantization/network.h"
#include "quantization/test_graph.h"

namespace torusml {
namespace {

const std::string kOperators = std::string(TORUSML_SOURCE_DIR) + "/tests/models/operators/";
// So many that no value is too small to count.
constexpr int kBits = 40;

std::vector<std::string> models() {
  std::vector<std::string> names;
  for (const auto& file : std::filesystem::directory_iterator(kOperators)) {
    const std::string name = file.path().stem().string();
    for (const char* prefix :
         {"add_two",   "sub_two", "mul_two",    "div_two",   "min_two", "max_two",
          "reduce",    "softmax", "logsoftmax", "layernorm", "rmsnorm", "instancenorm",
          "groupnorm", "split",   "resize",     "where",     "and",     "or",
          "xor",       "argmax",  "argmin",     "topk"}) {
      if (name.starts_with(prefix)) names.push_back(name);
    }
  }
  std::ranges::sort(names);
  return names;
}

void expect_same(const FloatGraph& graph, const std::vector<Tensor<double>>& inputs) {
  FloatGraph rewritten = graph;
  decompose(rewritten, inputs, kBits);
  EXPECT_NO_THROW(Network{rewritten});
  const auto expected = evaluate(graph, inputs), got = evaluate(rewritten, inputs);
  for (const std::string& output : graph.outputs) {
    const Tensor<double>&a = expected.at(output).values, &b = got.at(output).values;
    ASSERT_EQ(a.shape, b.shape);
    for (std::size_t i = 0; i < a.data.size(); ++i)
      EXPECT_NEAR(a.data[i], b.data[i], 1e-9 * std::max(1.0, std::abs(a.data[i]))) << output << i;
  }
}

class DecomposedModels : public testing::TestWithParam<std::string> {};

TEST_P(DecomposedModels, ComputeTheSame) {
  const FloatGraph graph = import_onnx(kOperators + GetParam() + ".onnx");
  std::mt19937_64 random(5);
  std::vector<Tensor<double>> inputs;
  for (const GraphInput& input : graph.inputs) {
    Shape shape = input.shape;
    shape[0] = 3;
    inputs.push_back(random_tensor(random, shape, 0.2, 2));
  }
  expect_same(graph, inputs);
}

INSTANTIATE_TEST_SUITE_P(Operators, DecomposedModels, testing::ValuesIn(models()),
                         [](const auto& info) { return info.param; });

struct Pair {
  const char* op_type;
  Shape a, b;

  friend void PrintTo(const Pair& pair, std::ostream* out) { *out << pair.op_type; }
};

class TwoTensors : public testing::TestWithParam<Pair> {};

TEST_P(TwoTensors, ComputeTheSame) {
  const Pair& pair = GetParam();
  const FloatGraph graph = TestGraph()
                               .input("a", pair.a)
                               .input("b", pair.b)
                               .node(pair.op_type, {"a", "b"}, "y")
                               .output("y")
                               .build();
  std::mt19937_64 random(6);
  Shape a = pair.a, b = pair.b;
  a[0] = b[0] = 4;
  expect_same(graph, {random_tensor(random, a, -3, 1), random_tensor(random, b, 0.5, 20)});
}

INSTANTIATE_TEST_SUITE_P(
    Pairs, TwoTensors,
    testing::Values(Pair{"Mul", {1, 2, 3}, {1, 1, 3}}, Pair{"Div", {1, 3}, {1, 3}},
                    Pair{"MatMul", {1, 2, 3}, {1, 3, 4}},
                    Pair{"MatMul", {1, 2, 2, 3}, {1, 1, 3, 2}}, Pair{"Max", {1, 2, 3}, {1, 2, 1}},
                    Pair{"Min", {1, 3}, {1, 3}}, Pair{"PRelu", {1, 3}, {1, 3}},
                    Pair{"Greater", {1, 3}, {1, 3}}, Pair{"LessOrEqual", {1, 3}, {1, 3}}));

struct First {
  std::int64_t elements, count;

  friend void PrintTo(const First& first, std::ostream* out) {
    *out << first.count << " of " << first.elements;
  }
};

class FirstOfRows : public testing::TestWithParam<First> {};

// Of rows with many equal elements, along a middle axis.
TEST_P(FirstOfRows, ComputeTheSame) {
  const auto [elements, count] = GetParam();
  std::mt19937_64 random(7);
  Tensor<double> x = random_tensor(random, {60, elements, 2}, -2, 2);
  for (double& value : x.data) value = std::nearbyint(value);
  for (const std::int64_t largest : {0, 1}) {
    TestGraph graph;
    graph.input("x", {1, elements, 2}).integers("k", {static_cast<double>(count)});
    for (const std::int64_t output : {0, 1}) {
      const std::string name = output == 0 ? "values" : "places";
      graph
          .node("TopK", {"x", "k"}, name,
                {{"axis", std::int64_t{1}}, {"largest", largest}, {"output", output}})
          .output(name);
    }
    expect_same(graph.build(), {x});
  }
}

// From 13 elements on the first two are found by their values.
INSTANTIATE_TEST_SUITE_P(Counts, FirstOfRows,
                         testing::Values(First{2, 1}, First{2, 2}, First{3, 2}, First{5, 1},
                                         First{5, 3}, First{6, 6}, First{12, 2}, First{13, 2},
                                         First{20, 3}));

// A mask keeps its scores from widening the steps: they are held just where they no longer count.
TEST(Decompose, MasksAreHeldNearTheOthers) {
  FloatGraph graph = TestGraph()
                         .input("x", {1, 3})
                         .constant("m", {{3}, {0, 0, -1e30}})
                         .node("Add", {"x", "m"}, "s")
                         .node("Softmax", {"s"}, "y")
                         .output("y")
                         .build();
  const Tensor<double> x{{2, 3}, {0, 1, 2, 1, -1, 0}};
  const FloatGraph original = graph;
  const StepRules rules = decompose(graph, {x}, 6);
  ASSERT_EQ(rules.operands.size(), 1U);
  const auto values = evaluate(graph, {x});
  const double least = std::ranges::min(values.at(*rules.operands.begin()).values.data);
  EXPECT_NEAR(least, 1 - 8 * std::log(2), 1e-12);
  const auto expected = evaluate(original, {x});
  for (std::size_t i = 0; i < 6; ++i) {
    EXPECT_NEAR(values.at("y").values.data[i], expected.at("y").values.data[i], 1.0 / 128);
  }
}

}  // namespace
}  // namespace torusml
