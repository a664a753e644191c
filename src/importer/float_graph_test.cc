#include "importer/float_graph.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "base/testing/errors.h"
#include "importer/model_builder.h"
#include "importer/onnx.h"
#include "torusml/error.h"

namespace torusml {
namespace {

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

// y = relu(h) * sigmoid(h) + c, reshaped, where h = x W; and z = h + relu(x), of two roots.
FloatGraph network() {
  return import_onnx_bytes(GraphBuilder()
                               .input("x", {-1, 2})
                               .constant(BuiltTensor::floats("w", {2, 2}, {1, 2, 3, 4}))
                               .constant(BuiltTensor::floats("c", {2}, {0.5, -0.5}))
                               .constant(BuiltTensor::integers("s", {-1, 2, 1}))
                               .node("MatMul", {"x", "w"}, {"h"}, {}, "", "product")
                               .node("Relu", {"h"}, {"r"})
                               .node("Sigmoid", {"h"}, {"g"})
                               .node("Mul", {"r", "g"}, {"m"}, {}, "", "gate")
                               .node("Add", {"c", "m"}, {"a"}, {}, "", "offset")
                               .node("Reshape", {"a", "s"}, {"y"})
                               .node("Relu", {"x"}, {"rx"})
                               .node("Add", {"h", "rx"}, {"z"}, {}, "", "residual")
                               .output("y")
                               .output("z")
                               .model(),
                           "network");
}

const FloatNode& node_of(const FloatGraph& graph, const std::string& tensor) {
  return *producer(graph, tensor);
}

double gated(double h, double c) { return std::max(h, 0.0) / (1 + std::exp(-h)) + c; }

TEST(Evaluate, DequantizesAVectorByItsOwnScales) {
  FloatNode node;
  node.op_type = "DequantizeLinear";
  node.attributes["axis"] = std::int64_t{0};
  const FloatTensor bias{ElementType::integer, {{2}, {1000, -2000}}},
      scales{ElementType::floating, {{2}, {0.001, 0.5}}},
      zero_points{ElementType::integer, {{2}, {0, 10}}};
  const FloatTensor result = evaluate_node(node, {&bias, &scales, &zero_points}).front();
  EXPECT_EQ(result.values.data, (std::vector<double>{1, -1005}));
}

FloatTensor counting(const Shape& shape) {
  FloatTensor tensor{ElementType::floating, {shape, {}}};
  for (std::int64_t i = 1; i <= number_of_elements(shape); ++i)
    tensor.values.data.push_back(static_cast<double>(i));
  return tensor;
}

TEST(Evaluate, RepeatsMatricesOfABatch) {
  FloatNode node;
  node.op_type = "MatMul";
  const FloatTensor a = counting({2, 1, 2, 3}), b = counting({4, 3, 1});
  const Tensor<double> y = evaluate_node(node, {&a, &b}).front().values;
  ASSERT_EQ(y.shape, (Shape{2, 4, 2, 1}));
  for (std::size_t i = 0; i < 16; ++i) {
    const std::size_t row = i / 8 * 2 + i % 2, column = i / 2 % 4;
    double expected = 0;
    for (std::size_t k = 0; k < 3; ++k)
      expected += a.values.data[3 * row + k] * b.values.data[3 * column + k];
    EXPECT_EQ(y.data[i], expected) << i;
  }
}

// More places of windows than are in memory at a time: 2^24 and some.
TEST(Evaluate, ConvolutionsReadWindowsInParts) {
  constexpr std::size_t kWindows = (1 << 16) + 7, kKernel = 1 << 8;
  FloatNode node;
  node.op_type = "Conv";
  const FloatTensor ones{ElementType::floating,
                         {{1, 1, 1, kKernel}, std::vector<double>(kKernel, 1)}};
  const FloatTensor x = counting({1, 1, 1, kWindows + kKernel - 1});
  const std::vector<double> sums = evaluate_node(node, {&x, &ones}).front().values.data;
  ASSERT_EQ(sums.size(), kWindows);
  for (std::size_t i = 0; i < kWindows; ++i)
    ASSERT_EQ(sums[i], kKernel * (x.values.data[i] + x.values.data[i + kKernel - 1]) / 2) << i;

  node.op_type = "ConvTranspose";
  const FloatTensor small{ElementType::floating,
                          {{1, 1, 1, kWindows}, std::vector<double>(kWindows, 1)}};
  const std::vector<double> spread = evaluate_node(node, {&small, &ones}).front().values.data;
  ASSERT_EQ(spread.size(), kWindows + kKernel - 1);
  for (std::size_t i = 0; i < spread.size(); ++i) {
    const double expected = std::min({i + 1, kKernel, spread.size() - i});
    ASSERT_EQ(spread[i], expected) << i;
  }
}

TEST(Evaluate, ComputesEveryTensor) {
  const FloatGraph graph = network();
  const auto tensors = evaluate(graph, {{{2, 2}, {1, -1, 0.5, 2}}});
  EXPECT_EQ(tensors.at("h").values.data, (std::vector<double>{-2, -2, 6.5, 9}));
  EXPECT_EQ(tensors.at("y").values.shape, (Shape{2, 2, 1}));
  EXPECT_DOUBLE_EQ(tensors.at("y").values.data[3], gated(9, -0.5));
  EXPECT_TRUE(tensors.count("w"));
}

TEST(Evaluate, RefusesBadInputs) {
  const FloatGraph graph = network();
  const auto refuse = [&](ErrorCode code, std::vector<Tensor<double>> inputs) {
    return error_text(code, [&] { evaluate(graph, inputs); });
  };
  EXPECT_TRUE(has(refuse(ErrorCode::wrong_shape, {{{2, 3}, std::vector<double>(6)}}), "'x'"));
  refuse(ErrorCode::wrong_shape, {});
  refuse(ErrorCode::wrong_shape, {{{2}, {1, 2}}});
  refuse(ErrorCode::wrong_shape, {{{}, {1}}});
  refuse(ErrorCode::wrong_shape, {{{0, 2}, {}}});
  refuse(ErrorCode::wrong_shape, {{{2, 2}, {1, 2, 3}}});
  EXPECT_TRUE(has(refuse(ErrorCode::non_finite_value, {{{1, 2}, {1, NAN}}}), "input 'x'"));
  refuse(ErrorCode::non_finite_value, {{{1, 2}, {INFINITY, 0}}});
}

TEST(Evaluate, NamesTheNodeOfANonFiniteValue) {
  const FloatGraph graph = import_onnx_bytes(GraphBuilder()
                                                 .input("x", {1, 2})
                                                 .node("Log", {"x"}, {"y"}, {}, "", "logarithm")
                                                 .output("y")
                                                 .model(),
                                             "m");
  EXPECT_TRUE(has(error_text(ErrorCode::non_finite_value,
                             [&] {
                               evaluate(graph, {{{1, 2}, {1, 0}}});
                             }),
                  "node 'logarithm' (Log)"));
}

TEST(Evaluate, RefusesNodesThatItDoesNotKnow) {
  const FloatTensor x{ElementType::floating, {{1}, {2}}};
  FloatNode node;
  node.name = "n";
  node.op_type = "LSTM";
  EXPECT_TRUE(
      has(error_text(ErrorCode::unsupported_operator, [&] { evaluate_node(node, {&x}); }), "'n'"));
  node.op_type = "Add";
  error_text(ErrorCode::invalid_model, [&] { evaluate_node(node, {&x}); });
  error_text(ErrorCode::invalid_model, [&] { evaluate_node(node, {&x, nullptr}); });
  node.op_type = "Not";
  error_text(ErrorCode::wrong_dtype, [&] { evaluate_node(node, {&x}); });
}

TEST(IsUnivariate, LooksAtOperandsAndShapes) {
  const FloatGraph graph = network();
  EXPECT_TRUE(is_univariate(graph, node_of(graph, "r")));
  EXPECT_TRUE(is_univariate(graph, node_of(graph, "a")));
  EXPECT_FALSE(is_univariate(graph, node_of(graph, "m")));
  EXPECT_FALSE(is_univariate(graph, node_of(graph, "h")));
  EXPECT_FALSE(is_univariate(graph, node_of(graph, "y")));
  EXPECT_FALSE(is_univariate(graph, node_of(graph, "z")));

  const FloatGraph wide = import_onnx_bytes(GraphBuilder()
                                                .input("x", {1, 1})
                                                .constant(BuiltTensor::floats("c", {3}, {1, 2, 3}))
                                                .node("Add", {"x", "c"}, {"y"})
                                                .output("y")
                                                .model(),
                                            "wide");
  EXPECT_FALSE(is_univariate(wide, wide.nodes[0])) << "the constant enlarges the operand";
}

TEST(ElementwiseTail, CollectsADiamond) {
  const FloatGraph graph = network();
  const ElementwiseTail tail = elementwise_tail(graph, "y", {"h", "x"});
  EXPECT_EQ(tail.root, "h");
  ASSERT_EQ(tail.nodes.size(), 5U);
  EXPECT_EQ(tail.nodes.back()->op_type, "Reshape");

  const FloatTensor roots{ElementType::floating, {{3, 2}, {-1, -1, 0, 0, 2, 2}}};
  const FloatTensor y = evaluate_tail(graph, tail, roots);
  EXPECT_EQ(y.values.shape, (Shape{3, 2, 1}));
  for (int i = 0; i < 6; ++i) {
    EXPECT_DOUBLE_EQ(y.values.data[i], gated(roots.values.data[i], i % 2 ? -0.5 : 0.5));
  }
}

TEST(ElementwiseTail, OfARootIsEmpty) {
  const FloatGraph graph = network();
  const ElementwiseTail tail = elementwise_tail(graph, "h", {"h"});
  EXPECT_TRUE(tail.nodes.empty());
  const FloatTensor values{ElementType::floating, {{1, 2}, {3, 4}}};
  EXPECT_EQ(evaluate_tail(graph, tail, values).values, values.values);
}

TEST(ElementwiseTail, RefusesWhatIsNoFunctionOfOneRoot) {
  const FloatGraph graph = network();
  const auto refuse = [&](ErrorCode code, const char* tensor, std::set<std::string> roots) {
    return error_text(code, [&] { elementwise_tail(graph, tensor, roots); });
  };
  const std::string two = refuse(ErrorCode::not_supported, "z", {"h", "x"});
  EXPECT_TRUE(has(two, "(node '") && has(two, "'h'") && has(two, "'x'")) << two;
  EXPECT_TRUE(has(refuse(ErrorCode::not_supported, "y", {"x"}), "node 'product'"));
  EXPECT_TRUE(has(refuse(ErrorCode::not_supported, "rx", {"h"}), "input 'x'"));
  refuse(ErrorCode::not_supported, "w", {"h"});
  EXPECT_TRUE(has(refuse(ErrorCode::invalid_argument, "ghost", {"h"}), "'ghost'"));
  error_text(ErrorCode::wrong_shape, [&] {
    evaluate_tail(graph, elementwise_tail(graph, "y", {"h"}),
                  {ElementType::floating, {{1, 3}, {1, 2, 3}}});
  });
}

TEST(ElementwiseTail, NamesTheNodeOfANonFiniteValue) {
  FloatGraph graph = import_onnx_bytes(GraphBuilder()
                                           .input("x", {1, 1})
                                           .node("Exp", {"x"}, {"y"}, {}, "", "growth")
                                           .output("y")
                                           .model(),
                                       "m");
  const ElementwiseTail tail = elementwise_tail(graph, "y", {"x"});
  EXPECT_TRUE(
      has(error_text(ErrorCode::non_finite_value,
                     [&] {
                       evaluate_tail(graph, tail, {ElementType::floating, {{1, 1}, {1000}}});
                     }),
          "growth"));
}

}  // namespace
}  // namespace torusml
