// Quantization after training: numbers by hand, folding, and wrong use.

#include "quantization/quantize.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "base/testing/errors.h"
#include "quantization/test_graph.h"
#include "quantization/weight_quantization.h"
#include "torusml/error.h"

namespace torusml {
namespace {

bool contains(const Error& error, const std::string& text) {
  return std::string(error.what()).find(text) != std::string::npos;
}

TestGraph one_layer() {
  return TestGraph()
      .input("x", {1, 2})
      .constant("w", {{2, 2}, {1, -3, 2, 3}})
      .constant("b", {{2}, {0.5, -0.5}})
      .node("Gemm", {"x", "w", "b"}, "h", {{"transB", std::int64_t{1}}});
}

const Tensor<double> kCalibration{{3, 2}, {0, 1.5, 3, 0.5, 1, 2}};

TEST(QuantizationBits, UniformHasThePeersDefaults) {
  const QuantizationBits three = QuantizationBits::uniform(3), seven = QuantizationBits::uniform(7);
  EXPECT_EQ(three.op_inputs, 3);
  EXPECT_EQ(three.op_weights, 3);
  EXPECT_EQ(three.model_inputs, 5);
  EXPECT_EQ(three.model_outputs, 5);
  EXPECT_EQ(seven.model_outputs, 7);
}

TEST(Quantize, OneLayerByHand) {
  const QuantizedGraph q =
      quantize(one_layer().output("h").build(), {kCalibration},
               {.bits = {.op_inputs = 2, .op_weights = 3, .model_outputs = 5}});
  ASSERT_EQ(q.layers.size(), 1U);
  const QuantizedLayer& layer = q.layers[0];
  EXPECT_EQ(q.inputs[0].quantizer.parameters(), (UniformQuantizationParameters{{1.0}, {0}, 0}));
  EXPECT_EQ(layer.operands[0].quantizer, q.inputs[0].quantizer) << "no table at the input";
  // Centred: symmetric, 3 / (2^2 - 1) a step.
  EXPECT_EQ(std::get<DenseWeight>(layer.operands[0].weight).data,
            (std::vector<std::int64_t>{1, -3, 2, 3}));
  EXPECT_EQ(layer.scale, std::vector<double>{1.0});
  EXPECT_EQ(layer.zero, std::vector<std::int64_t>{0});
  EXPECT_EQ(layer.bias, (std::vector<double>{0.5, -0.5}));
  ASSERT_FALSE(q.outputs[0].is_table());
  EXPECT_EQ(q.outputs[0].offset, (std::vector<double>{0.5, -0.5}));
}

TEST(Quantize, ZeroPointsOfInputsAndWeightsAreTakenOff) {
  const FloatGraph graph = TestGraph()
                               .input("x", {1, 1})
                               .constant("w", {{1, 4}, {1, 2, 3, 4}})
                               .node("MatMul", {"x", "w"}, "h")
                               .output("h")
                               .build();
  const QuantizedGraph q = quantize(graph, {Tensor<double>{{2, 1}, {-1, 2}}},
                                    {.bits = {.op_inputs = 2, .op_weights = 2}});
  const QuantizedLayer& layer = q.layers[0];
  // Input: signed 2 bits, step 1, (-2 * 2 + 1 * 1) / 3. Weight: step 1, zero point -1, so integers
  // are 0..3, and 1..4 with it taken off.
  EXPECT_EQ(layer.operands[0].quantizer.parameters(),
            (UniformQuantizationParameters{{1.0}, {-1}, 2}));
  EXPECT_EQ(std::get<DenseWeight>(layer.operands[0].weight).data,
            (std::vector<std::int64_t>{1, 2, 3, 4}));
  EXPECT_EQ(layer.zero, (std::vector<std::int64_t>{-1, -2, -3, -4}));
}

TEST(Quantize, GemmFactors) {
  TestGraph graph = one_layer();
  graph.node("Gemm", {"x", "w", "b"}, "g",
             {{"alpha", 2.0}, {"beta", -4.0}, {"transB", std::int64_t{0}}});
  const QuantizedGraph q =
      quantize(graph.output("g").build(), {kCalibration},
               {.bits = {.op_inputs = 2, .op_weights = 3, .model_outputs = 5}});
  EXPECT_EQ(std::get<DenseWeight>(q.layers[0].operands[0].weight).data,
            (std::vector<std::int64_t>{1, 2, -3, 3}));
  EXPECT_EQ(q.layers[0].scale, std::vector<double>{2.0});
  EXPECT_EQ(q.layers[0].bias, (std::vector<double>{-2, 2}));
}

TEST(Quantize, WeightsThatAreNotCentredGetAZeroPoint) {
  EXPECT_EQ(quantize_weights({-1, 0, 1}, 3).integers, (std::vector<std::int64_t>{-3, 0, 3}));
  EXPECT_EQ(quantize_weights({-0.1, 3.4}, 3).scale, 0.5) << "extremes differ by more than 3";
  EXPECT_EQ(quantize_weights({-0.1, 3.4}, 3).integers, (std::vector<std::int64_t>{0, 7}));
  // 99 weights above zero and one below: the 3rd percentile is above zero.
  std::vector<double> skewed(99, 1.0);
  skewed.push_back(-1);
  EXPECT_EQ(quantize_weights(skewed, 2).scale, 2.0 / 3);
  EXPECT_EQ(quantize_weights({5, 5}, 4).integers, (std::vector<std::int64_t>{1, 1}));
  EXPECT_EQ(quantize_weights({-1, 1}, 1).scale, 2.0);
  EXPECT_EQ(percentile({4, 1, 3, 2}, 0.5), 2.5);
  EXPECT_EQ(percentile({4, 1, 3, 2}, 1), 4);
}

TEST(Quantize, LinearMapsAreFoldedIntoOne) {
  std::mt19937_64 random(1);
  const FloatGraph graph =
      TestGraph()
          .input("x", {1, 3})
          .constant("mean", random_tensor(random, {3}))
          .constant("w1", random_tensor(random, {3, 4}))
          .constant("w2", random_tensor(random, {2, 3}))
          .constant("w3", random_tensor(random, {3, 2}))
          .constant("gamma", random_tensor(random, {4}))
          .constant("beta", random_tensor(random, {4}))
          .constant("var", random_tensor(random, {4}, 0.5, 2))
          .integers("shape", {-1, 2, 2})
          .node("Sub", {"x", "mean"}, "centred")
          .node("MatMul", {"centred", "w1"}, "a")
          .node("BatchNormalization", {"a", "gamma", "beta", "beta", "var"}, "n")
          .node("Reshape", {"n", "shape"}, "r")
          .node("Transpose", {"r"}, "t", {{"perm", std::vector<std::int64_t>{0, 2, 1}}})
          .node("MatMul", {"t", "w2"}, "m")
          .node("MatMul", {"m", "w3"}, "y")
          .output("y")
          .build();
  const Tensor<double> x = random_tensor(random, {50, 3});
  const QuantizedGraph q = quantize(graph, {x}, {.bits = QuantizationBits::uniform(12)});
  ASSERT_EQ(q.layers.size(), 1U);
  EXPECT_EQ(q.layers[0].operands[0].tensor, "x");
  EXPECT_FALSE(q.outputs[0].is_table());
}

TEST(Quantize, InputsOfALinearNetworkAreJoined) {
  std::mt19937_64 random(2);
  const FloatGraph graph = TestGraph()
                               .input("a", {1, 3})
                               .input("b", {1, 2})
                               .constant("wa", random_tensor(random, {3, 4}))
                               .constant("wb", random_tensor(random, {2, 4}))
                               .node("MatMul", {"a", "wa"}, "pa")
                               .node("MatMul", {"b", "wb"}, "pb")
                               .node("Sub", {"pa", "pb"}, "y")
                               .output("y")
                               .build();
  const QuantizedGraph q =
      quantize(graph, {random_tensor(random, {20, 3}), random_tensor(random, {20, 2})},
               {.bits = QuantizationBits::uniform(6)});
  ASSERT_EQ(q.layers.size(), 1U);
  ASSERT_EQ(q.layers[0].operands.size(), 2U);
  for (std::size_t i = 0; i < 2; ++i)
    EXPECT_EQ(q.layers[0].operands[i].quantizer, q.inputs[i].quantizer);
}

TEST(Quantize, SumsShareOneScale) {
  std::mt19937_64 random(3);
  const FloatGraph graph = TestGraph()
                               .input("x", {1, 3})
                               .constant("w", random_tensor(random, {3, 3}, -4, 4))
                               .node("MatMul", {"x", "w"}, "h")
                               .node("Relu", {"h"}, "r")
                               .node("Sigmoid", {"x"}, "s")
                               .node("Sub", {"s", "r"}, "d")
                               .node("Tanh", {"d"}, "y")
                               .output("y")
                               .build();
  const QuantizedGraph q =
      quantize(graph, {random_tensor(random, {40, 3})}, {.bits = QuantizationBits::uniform(4)});
  ASSERT_EQ(q.layers.size(), 2U);
  const QuantizedLayer& sum = q.layers[1];
  EXPECT_EQ(sum.operands[0].quantizer.parameters().scale,
            sum.operands[1].quantizer.parameters().scale);
  EXPECT_EQ(std::get<ScaleWeight>(sum.operands[0].weight).factor, 1);
  EXPECT_EQ(std::get<ScaleWeight>(sum.operands[1].weight).factor, -1);
  // x has two readers that want it differently: model_inputs bits, and tables behind it.
  EXPECT_EQ(q.inputs[0].quantizer.options().n_bits, 5);
  EXPECT_TRUE(q.outputs[0].is_table());
  EXPECT_EQ(q.outputs[0].quantizer.options().n_bits, 5);
  EXPECT_TRUE(q.outputs[0].quantizer.options().is_signed);
}

TEST(Quantize, ResidualSumsNeedNoTableBeforeThem) {
  std::mt19937_64 random(4);
  const FloatGraph graph = TestGraph()
                               .input("x", {1, 3})
                               .constant("w1", random_tensor(random, {3, 3}))
                               .constant("w2", random_tensor(random, {3, 3}))
                               .node("MatMul", {"x", "w1"}, "h")
                               .node("Relu", {"h"}, "r")
                               .node("Sigmoid", {"r"}, "s")
                               .node("MatMul", {"s", "w2"}, "m")
                               .node("Add", {"r", "m"}, "a")
                               .node("Tanh", {"a"}, "y")
                               .output("y")
                               .build();
  const QuantizedGraph q =
      quantize(graph, {random_tensor(random, {40, 3})}, {.bits = QuantizationBits::uniform(4)});
  // r and sigmoid(r) are two functions of one accumulator, r + sigmoid(r) W is one layer.
  ASSERT_EQ(q.layers.size(), 2U);
  const QuantizedLayer& layer = q.layers[1];
  ASSERT_EQ(layer.operands.size(), 2U);
  const std::int64_t factor = std::get<ScaleWeight>(layer.operands[0].weight).factor;
  EXPECT_GE(factor, 1);
  // Exactly: a unit of r is a whole number of units of the accumulators.
  EXPECT_DOUBLE_EQ(layer.operands[0].quantizer.parameters().scale[0],
                   static_cast<double>(factor) * layer.scale[0]);
  for (std::int64_t w : std::get<DenseWeight>(layer.operands[1].weight).data)
    EXPECT_LE(std::abs(w), 7);
}

TEST(Quantize, InputsOfASumShareItsScale) {
  const FloatGraph graph = TestGraph()
                               .input("a", {1, 2})
                               .input("b", {1, 2})
                               .node("Add", {"a", "b"}, "y")
                               .output("y")
                               .build();
  const QuantizedGraph q = quantize(
      graph, {Tensor<double>{{2, 2}, {0, 1, 2, 3}}, Tensor<double>{{2, 2}, {-15, 0, 10, 15}}},
      {.bits = QuantizationBits::uniform(4)});
  EXPECT_EQ(q.inputs[0].quantizer.parameters().scale, std::vector<double>{2.0});
  EXPECT_EQ(q.inputs[1].quantizer.parameters().scale, std::vector<double>{2.0});
  EXPECT_EQ(q.layers[0].operands[0].quantizer, q.inputs[0].quantizer);
}

TEST(Quantize, WrongBits) {
  const FloatGraph graph = one_layer().output("h").build();
  for (int bits : {0, 33, -1}) {
    for (int role = 0; role < 4; ++role) {
      QuantizationBits all{.op_inputs = 1, .op_weights = 8, .model_inputs = 8, .model_outputs = 32};
      (role == 0   ? all.op_inputs
       : role == 1 ? all.op_weights
       : role == 2 ? all.model_inputs
                   : all.model_outputs) = bits;
      const Error error = error_of([&] { quantize(graph, {kCalibration}, {.bits = all}); });
      EXPECT_EQ(error.code(), ErrorCode::unsupported_bits);
      EXPECT_TRUE(contains(error, std::to_string(bits))) << error.what();
    }
  }
  const Error error = error_of(
      [&] { quantize(graph, {kCalibration}, {.bits = {.op_inputs = 6, .model_outputs = 5}}); });
  EXPECT_EQ(error.code(), ErrorCode::invalid_argument);
  EXPECT_TRUE(contains(error, "model_outputs (5 bits)")) << error.what();
}

TEST(Quantize, WrongCalibration) {
  const FloatGraph graph = one_layer().output("h").build();
  const auto error = [&](const std::vector<Tensor<double>>& data) {
    return error_of([&] { quantize(graph, data, {}); });
  };
  EXPECT_EQ(error({}).code(), ErrorCode::empty_calibration);
  EXPECT_EQ(error({Tensor<double>{{0, 2}, {}}}).code(), ErrorCode::empty_calibration);
  EXPECT_EQ(error({kCalibration, kCalibration}).code(), ErrorCode::wrong_shape);
  const Error shape = error({Tensor<double>{{2, 3}, {1, 2, 3, 4, 5, 6}}});
  EXPECT_EQ(shape.code(), ErrorCode::wrong_shape);
  EXPECT_TRUE(contains(shape, "(2, 3)") && contains(shape, "(1, 2)")) << shape.what();
  EXPECT_EQ(error({Tensor<double>{{2}, {1, 2}}}).code(), ErrorCode::wrong_shape);
  EXPECT_EQ(error({Tensor<double>{{}, {1}}}).code(), ErrorCode::wrong_shape);
  EXPECT_EQ(error({Tensor<double>{{2, 2}, {1, 2, 3}}}).code(), ErrorCode::wrong_shape);
  const Error constant = error({Tensor<double>{{2, 2}, {7, 7, 7, 7}}});
  EXPECT_EQ(constant.code(), ErrorCode::constant_calibration);
  EXPECT_TRUE(contains(constant, "'x'") && contains(constant, "7")) << constant.what();
  for (double bad : {std::nan(""), std::numeric_limits<double>::infinity()}) {
    EXPECT_EQ(error({Tensor<double>{{2, 2}, {1, bad, 3, 4}}}).code(), ErrorCode::non_finite_value);
  }
}

TEST(Quantize, InputsWithoutElementsAreRefused) {
  FloatGraph graph = TestGraph().input("x", {1, 1}).node("Relu", {"x"}, "y").output("y").build();
  graph.inputs[0].shape = {1, 0};
  EXPECT_EQ(error_of([&] {
              quantize(graph, {Tensor<double>{{2, 0}, {}}}, {});
            }).code(),
            ErrorCode::wrong_shape);
}

TEST(Quantize, InputsOfDifferentBatchesAreRefused) {
  const FloatGraph graph = TestGraph()
                               .input("a", {1, 1})
                               .input("b", {1, 1})
                               .node("Add", {"a", "b"}, "y")
                               .output("y")
                               .build();
  const Error error = error_of([&] {
    quantize(graph, {Tensor<double>{{2, 1}, {0, 1}}, Tensor<double>{{3, 1}, {0, 1, 2}}}, {});
  });
  EXPECT_EQ(error.code(), ErrorCode::wrong_shape);
}

TEST(Quantize, FunctionsOfTwoTensorsWithoutARuleAreRefused) {
  const FloatGraph graph = TestGraph()
                               .input("a", {1, 2})
                               .input("b", {1, 2})
                               .node("Pow", {"a", "b"}, "y")
                               .output("y")
                               .build();
  const Tensor<double> x{{2, 2}, {1, 2, 3, 4}};
  const Error error = error_of([&] { quantize(graph, {x, x}, {}); });
  EXPECT_EQ(error.code(), ErrorCode::not_supported);
  EXPECT_TRUE(contains(error, "Pow_y")) << error.what();
}

TEST(Quantize, WeightsThatAreNotFiniteAreRefused) {
  FloatGraph graph = one_layer().output("h").build();
  graph.constants["w"].values.data[1] = std::nan("");
  EXPECT_EQ(error_of([&] { quantize(graph, {kCalibration}, {}); }).code(),
            ErrorCode::non_finite_value);
}

}  // namespace
}  // namespace torusml
