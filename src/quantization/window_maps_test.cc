// Linear maps of convolutions, poolings, reductions and moves: against the evaluator, on the models
// that onnxruntime has checked; and how their weights become integers.

#include "quantization/window_maps.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

#include "importer/onnx.h"
#include "quantization/layer_quantization.h"
#include "quantization/linear_layers.h"
#include "quantization/quantize.h"
#include "quantization/test_graph.h"
#include "torusml/error.h"

namespace torusml {
namespace {

const std::string kOperators = std::string(TORUSML_SOURCE_DIR) + "/tests/models/operators/";

std::vector<std::string> linear_models() {
  std::vector<std::string> names;
  for (const auto& file : std::filesystem::directory_iterator(kOperators)) {
    const std::string name = file.path().stem().string();
    for (const char* prefix : {"conv_", "pad_", "averagepool_", "globalaveragepool", "reducemean",
                               "reducesum", "concat_", "slice_", "gather_", "transpose", "expand",
                               "convtranspose_", "split_opset11", "tile", "resize_", "trilu"}) {
      if (name.starts_with(prefix) && !name.starts_with("reducesumsquare")) names.push_back(name);
    }
  }
  std::ranges::sort(names);
  return names;
}

class LinearModels : public testing::TestWithParam<std::string> {};

TEST_P(LinearModels, AreTheirMap) {
  std::mt19937_64 random(5);
  const FloatGraph graph = import_onnx(kOperators + GetParam() + ".onnx");
  const Network network(graph);
  const std::vector<LinearLayer> layers = linear_layers(network, {});
  if (layers.empty()) GTEST_SKIP() << "nothing but changes of shape";
  ASSERT_EQ(layers.size(), 1U);
  std::vector<Tensor<double>> inputs;
  std::vector<double> y = layers[0].bias;
  for (const GraphInput& input : graph.inputs) {
    inputs.push_back(random_tensor(random, input.shape, -3, 3));
    for (const FloatTerm& term : layers[0].terms) {
      if (term.tensor != input.name) continue;
      const std::vector<double> part = term.map.apply(inputs.back().data);
      for (std::size_t i = 0; i < y.size(); ++i) y[i] += part[i];
    }
  }
  const std::vector<double> expected = evaluate(graph, inputs).at(graph.outputs[0]).values.data;
  ASSERT_EQ(y.size(), expected.size());
  for (std::size_t i = 0; i < y.size(); ++i) EXPECT_NEAR(y[i], expected[i], 1e-12) << i;
}

INSTANTIATE_TEST_SUITE_P(Operators, LinearModels, testing::ValuesIn(linear_models()),
                         [](const auto& info) { return info.param; });

TEST(LinearModels, AreThere) { EXPECT_GE(linear_models().size(), 40U); }

QuantizedGraph quantized(const TestGraph& graph, const Tensor<double>& x, int bits,
                         bool qat = false) {
  return quantize(graph.build(), {x}, {.bits = QuantizationBits::uniform(bits), .import_qat = qat});
}

// The step of a convolution's weights is that of its weights alone, as if they were a Gemm's: not
// of the sums that an edge padding makes of them.
TEST(WindowMaps, PaddingDoesNotCoarsenWeights) {
  std::mt19937_64 random(7);
  const Tensor<double> x = random_tensor(random, {20, 1, 6, 6});
  const Tensor<double> weight = random_tensor(random, {1, 1, 3, 3}, 0.5, 1);
  TestGraph plain, padded;
  plain.input("x", {1, 1, 6, 6}).constant("w", weight).node("Conv", {"x", "w"}, "y").output("y");
  padded.input("x", {1, 1, 6, 6})
      .integers("pads", {0, 0, 1, 1, 0, 0, 1, 1})
      .node("Pad", {"x", "pads"}, "p", {{"mode", std::string("edge")}})
      .constant("w", weight)
      .node("Conv", {"p", "w"}, "y")
      .output("y");
  const QuantizedGraph a = quantized(plain, x, 4), b = quantized(padded, x, 4);
  EXPECT_EQ(a.layers[0].scale, b.layers[0].scale);
  EXPECT_EQ(b.layers.size(), 1U);
  EXPECT_EQ(number_of_elements(b.layers[0].shape), 36);
}

// Averages of windows are sums of integers, exactly: the number that they are divided by is part of
// the scale, also where it differs at the border.
TEST(WindowMaps, AveragesHaveExactWeights) {
  std::mt19937_64 random(9);
  const Tensor<double> x = random_tensor(random, {20, 2, 5, 5});
  TestGraph graph;
  graph.input("x", {1, 2, 5, 5})
      .node("AveragePool", {"x"}, "y",
            {{"kernel_shape", std::vector<std::int64_t>{3, 3}},
             {"strides", std::vector<std::int64_t>{2, 2}},
             {"pads", std::vector<std::int64_t>{1, 1, 1, 1}}})
      .output("y");
  const QuantizedGraph result = quantized(graph, x, 3);
  const auto& weight = std::get<SparseWeight>(result.layers[0].operands[0].weight);
  for (std::int64_t v : weight.value) EXPECT_EQ(v, 1);
  const double step = result.inputs[0].quantizer.parameters().scale[0];
  ASSERT_EQ(result.layers[0].scale.size(), 18U);
  EXPECT_DOUBLE_EQ(result.layers[0].scale[0], step / 4);
  EXPECT_DOUBLE_EQ(result.layers[0].scale[1], step / 6);
  EXPECT_DOUBLE_EQ(result.layers[0].scale[4], step / 9);
}

// The zero point of the operand, met by fewer weights at the border, is left out of accumulators:
// all places of a channel have the same scale, zero and bias.
TEST(WindowMaps, ZeroPaddingIsTheZeroPoint) {
  std::mt19937_64 random(11);
  const Tensor<double> x = random_tensor(random, {30, 2, 5, 5}, -0.3, 1);  // a zero point
  TestGraph graph;
  graph.input("x", {1, 2, 5, 5})
      .constant("w", random_tensor(random, {3, 2, 3, 3}))
      .constant("b", random_tensor(random, {3}))
      .node("Conv", {"x", "w", "b"}, "y", {{"pads", std::vector<std::int64_t>{1, 1, 1, 1}}})
      .node("Relu", {"y"}, "r")
      .output("r");
  const QuantizedLayer layer = quantized(graph, x, 5).layers.at(0);
  ASSERT_NE(layer.operands[0].quantizer.parameters().zero_point[0], 0);
  EXPECT_EQ(layer.zero, std::vector<std::int64_t>{0});
  ASSERT_EQ(layer.integer_bias.size(), 75U);
  std::vector<std::int64_t> at_zero = layer.integer_bias;  // the accumulators of an image of zeros
  const std::vector<std::int64_t> zeros(50, layer.operands[0].quantizer.parameters().zero_point[0]);
  apply_weight(layer.operands[0].weight, zeros.data(), 50, at_zero.data(), 75);
  EXPECT_EQ(at_zero, std::vector<std::int64_t>(75, 0));
}

}  // namespace
}  // namespace torusml
