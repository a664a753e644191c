// Networks that bring their quantizers along.

#include "quantization/own_quantizers.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/testing/errors.h"
#include "quantization/quantize.h"
#include "quantization/test_graph.h"
#include "torusml/error.h"

namespace torusml {
namespace {

bool contains(const Error& error, const std::string& text) {
  return std::string(error.what()).find(text) != std::string::npos;
}

const QuantizationRequest kQat{.bits = QuantizationBits::uniform(3), .import_qat = true};
const Tensor<double> kData{{4, 2}, {-1, 0.5, 0.3, 1.2, 0.9, -0.7, 0.1, 0.2}};

// x -> Quant -> Gemm (quantized weight) -> Relu -> Quant -> Gemm
TestGraph two_layers() {
  return TestGraph()
      .input("x", {1, 2})
      .quant("x", "qx", 0.25, 3, true)
      .constant("w1", {{3, 2}, {0.26, -0.4, 0.9, 0.1, -0.6, 0.31}})
      .constant("s1", {{3, 1}, {0.2, 0.3, 0.2}})
      .constant("zero", {{}, {0}})
      .constant("bits", {{}, {3}})
      .node("Quant", {"w1", "s1", "zero", "bits"}, "qw1",
            {{"signed", std::int64_t{1}}, {"narrow", std::int64_t{1}}}, "onnx.brevitas")
      .constant("b1", {{3}, {0.1, 0.2, -0.3}})
      .node("Gemm", {"qx", "qw1", "b1"}, "h", {{"transB", std::int64_t{1}}})
      .node("Relu", {"h"}, "r")
      .quant("r", "qr", 0.1, 3, false)
      .constant("w2", {{3, 2}, {1, -2, 3, 1, 0, 2}})
      .quant("w2", "qw2", 1, 3, true, true)
      .node("MatMul", {"qr", "qw2"}, "y")
      .output("y");
}

TEST(OwnQuantizers, AreTakenAsTheyAre) {
  const QuantizedGraph q = quantize(two_layers().build(), {kData}, kQat);
  ASSERT_EQ(q.layers.size(), 2U);
  EXPECT_EQ(q.inputs[0].quantizer.parameters(), (UniformQuantizationParameters{{0.25}, {0}, 4}));
  EXPECT_EQ(q.inputs[0].quantizer.lowest(), -4);
  EXPECT_EQ(q.layers[0].operands[0].quantizer, q.inputs[0].quantizer);
  // Rounded by the quantizer itself: 0.26 / 0.2 = 1.3 and so on, rows with scales of their own.
  EXPECT_EQ(std::get<DenseWeight>(q.layers[0].operands[0].weight).data,
            (std::vector<std::int64_t>{1, -2, 3, 0, -3, 2}));
  ASSERT_EQ(q.layers[0].scale.size(), 3U);
  EXPECT_DOUBLE_EQ(q.layers[0].scale[0], 0.25 * 0.2);
  EXPECT_DOUBLE_EQ(q.layers[0].scale[1], 0.25 * 0.3);
  EXPECT_EQ(q.layers[0].bias, (std::vector<double>{0.1, 0.2, -0.3}));
  EXPECT_EQ(std::get<DenseWeight>(q.layers[1].operands[0].weight).data,
            (std::vector<std::int64_t>{1, 3, 0, -2, 1, 2}));
  EXPECT_EQ(q.layers[1].operands[0].quantizer.highest(), 7);
  EXPECT_DOUBLE_EQ(q.layers[1].scale[0], 0.1);
}

TEST(OwnQuantizers, OfAnOutputMakeItsTable) {
  TestGraph graph = two_layers();
  graph.quant("y", "z", 0.5, 4, true);
  FloatGraph built = graph.output("z").build();
  built.outputs = {"z"};
  const QuantizedGraph q = quantize(built, {kData}, kQat);
  ASSERT_TRUE(q.outputs[0].is_table());
  EXPECT_EQ(q.outputs[0].quantizer.parameters(), (UniformQuantizationParameters{{0.5}, {0}, 8}));
}

TEST(OwnQuantizers, QuantizeLinear) {
  FloatGraph graph = TestGraph()
                         .input("x", {1, 2})
                         .constant("s", {{}, {0.25}})
                         .constant("z", {{}, {1}})
                         .constant("low", {{}, {-3}})
                         .constant("high", {{}, {4}})
                         .constant("w", {{2, 2}, {1, 2, 3, 4}})
                         .node("QuantizeLinear", {"x", "s", "z"}, "q",
                               {{"minimum", std::int64_t{-128}}, {"maximum", std::int64_t{127}}})
                         .node("Clip", {"q", "low", "high"}, "c")
                         .node("DequantizeLinear", {"c", "s", "z"}, "d")
                         .node("MatMul", {"d", "w"}, "y")
                         .output("y")
                         .build();
  const std::optional<OwnQuantizer> own = own_quantizer(Network(graph), "d");
  ASSERT_TRUE(own);
  EXPECT_EQ(own->input, "x");
  EXPECT_EQ(own->quantizer.parameters(), (UniformQuantizationParameters{{0.25}, {1}, 8}));
  EXPECT_LE(own->quantizer.lowest(), -3);
  EXPECT_GE(own->quantizer.highest(), 4);
  const QuantizedGraph q = quantize(graph, {kData}, kQat);
  // Weights without a quantizer lie on a grid of their own.
  EXPECT_EQ(std::get<DenseWeight>(q.layers[0].operands[0].weight).data,
            (std::vector<std::int64_t>{1, 3, 2, 4}));
  EXPECT_EQ(q.layers[0].zero, (std::vector<std::int64_t>{4, 6}));
}

TEST(OwnQuantizers, ThatAreMissingAreListed) {
  const FloatGraph graph = TestGraph()
                               .input("x", {1, 2})
                               .quant("x", "qx", 0.25, 3, true)
                               .constant("w", {{2, 2}, {1, 2, 3, 0}})
                               .node("MatMul", {"qx", "w"}, "h")
                               .node("Relu", {"h"}, "r")
                               .node("MatMul", {"r", "w"}, "g")
                               .node("Tanh", {"g"}, "t")
                               .node("MatMul", {"t", "w"}, "y")
                               .output("y")
                               .build();
  const Error error = error_of([&] { quantize(graph, {kData}, kQat); });
  EXPECT_EQ(error.code(), ErrorCode::missing_quantizer);
  for (const char* text : {"'r'", "'t'", "QuantIdentity", "to_qat"})
    EXPECT_TRUE(contains(error, text)) << error.what();
}

TEST(OwnQuantizers, WeightsOffTheGridAreRefused) {
  FloatGraph graph = two_layers().build();
  graph.constants["w2"].values.data = {1, -2, 3, 1, 0.123, 2.01};
  for (FloatNode& node : graph.nodes) {
    if (node.op_type == "MatMul") node.inputs[1] = "w2";
  }
  const Error error = error_of([&] { quantize(graph, {kData}, kQat); });
  EXPECT_EQ(error.code(), ErrorCode::missing_quantizer);
  EXPECT_TRUE(contains(error, "'w2'") && contains(error, "3 bits")) << error.what();
}

TEST(OwnQuantizers, PerChannelActivationsAreRefused) {
  FloatGraph graph = two_layers().build();
  graph.constants["qx.scale"].values = {{2}, {0.25, 0.5}};
  EXPECT_EQ(error_of([&] { quantize(graph, {kData}, kQat); }).code(), ErrorCode::not_supported);
}

TEST(OwnQuantizers, ScalesThatDifferWithinAChannelAreRefused) {
  FloatGraph graph = two_layers().build();
  graph.constants["s1"].values = {{1, 2}, {0.25, 0.5}};
  const Error error = error_of([&] { quantize(graph, {kData}, kQat); });
  EXPECT_EQ(error.code(), ErrorCode::not_supported);
  EXPECT_TRUE(contains(error, "output channel")) << error.what();
}

TEST(OwnQuantizers, OtherRoundingsAreRefused) {
  FloatGraph graph = two_layers().build();
  for (FloatNode& node : graph.nodes) {
    if (node.outputs[0] == "qx") node.attributes["rounding_mode"] = std::string("FLOOR");
  }
  const Error error = error_of([&] { quantize(graph, {kData}, kQat); });
  EXPECT_EQ(error.code(), ErrorCode::not_supported);
  EXPECT_TRUE(contains(error, "FLOOR")) << error.what();
}

TestGraph sum_of(double scale_a, double scale_b) {
  return TestGraph()
      .input("x", {1, 2})
      .quant("x", "qx", 0.25, 3, true)
      .constant("w", {{2, 2}, {1, 2, 3, 0}})
      .node("MatMul", {"qx", "w"}, "h")
      .node("Relu", {"h"}, "r")
      .quant("r", "a", scale_a, 3, false)
      .node("MatMul", {"a", "w"}, "g")
      .quant("g", "b", scale_b, 4, true)
      .node("Sub", {"a", "b"}, "y")
      .output("y");
}

// Where the scales are not in integer ratio, both operands are brought to a step of their own.
TEST(OwnQuantizers, SumsKeepScalesInIntegerRatio) {
  const QuantizedGraph q = quantize(sum_of(0.6, 0.2).build(), {kData}, kQat);
  const QuantizedLayer& sum = q.layers.back();
  EXPECT_EQ(std::get<ScaleWeight>(sum.operands[0].weight).factor, 3);
  EXPECT_EQ(std::get<ScaleWeight>(sum.operands[1].weight).factor, -1);
  EXPECT_EQ(sum.scale, std::vector<double>{0.2});
  const QuantizedLayer other = quantize(sum_of(0.5, 0.2).build(), {kData}, kQat).layers.back();
  EXPECT_EQ(other.operands[0].quantizer.parameters().scale,
            other.operands[1].quantizer.parameters().scale);
  EXPECT_EQ(std::get<ScaleWeight>(other.operands[0].weight).factor, 1);
  EXPECT_EQ(std::get<ScaleWeight>(other.operands[1].weight).factor, -1);
}

TEST(OwnQuantizers, NetworksThatAreIntegersAlready) {
  const FloatGraph graph = TestGraph()
                               .input("x", {1, 2})
                               .constant("w1", {{2, 2}, {1, -2, 3, 0}})
                               .constant("low", {{}, {0}})
                               .constant("high", {{}, {7}})
                               .constant("w2", {{2, 1}, {-1, 2}})
                               .node("MatMul", {"x", "w1"}, "h")
                               .node("Clip", {"h", "low", "high"}, "c")
                               .node("MatMul", {"c", "w2"}, "y")
                               .output("y")
                               .build();
  const Tensor<double> x{{3, 2}, {3, 0, 1, 2, 2, 3}};
  const QuantizedGraph q = quantize(graph, {x}, kQat);
  EXPECT_EQ(q.inputs[0].quantizer.parameters(), (UniformQuantizationParameters{{1.0}, {0}, 0}));
  EXPECT_EQ(std::get<DenseWeight>(q.layers[0].operands[0].weight).data,
            (std::vector<std::int64_t>{1, 3, -2, 0}));
  EXPECT_EQ(q.layers[1].operands[0].quantizer.parameters().scale, std::vector<double>{1.0});
  EXPECT_EQ(q.layers[1].scale, std::vector<double>{1.0});

  const Tensor<double> halves{{3, 2}, {0.3, 0, 1.17, 2, 2.21, 3}};
  const Error error = error_of([&] { quantize(graph, {halves}, kQat); });
  EXPECT_EQ(error.code(), ErrorCode::missing_quantizer);
  EXPECT_TRUE(contains(error, "'x'") && contains(error, "3 bits")) << error.what();
}

TEST(GridQuantizer, FindsTheStep) {
  const auto scale = [](const std::vector<double>& values, int bits) {
    const std::optional<UniformQuantizer> grid = grid_quantizer(values, bits);
    return grid ? grid->parameters().scale[0] : 0.0;
  };
  EXPECT_NEAR(scale({0.3, -0.5, 0.2}, 4), 0.1, 1e-12);
  EXPECT_NEAR(scale({4, 6, 9}, 4), 1, 1e-12);
  EXPECT_EQ(scale({4, 6, 9}, 3), 0) << "9 needs 4 bits";
  EXPECT_EQ(scale({0, 0}, 3), 1);
  EXPECT_EQ(scale({1, std::sqrt(2.0)}, 8), 0);
  EXPECT_NEAR(scale({float(0.1) * 3.0, float(0.3), -0.7}, 5), 0.1, 1e-6) << "float noise";
  std::vector<double> many;
  for (int i = -32768; i < 32768; ++i) many.push_back(i * 0.001);
  EXPECT_NEAR(scale(many, 16), 0.001, 1e-9);
  EXPECT_EQ(scale(many, 15), 0);
}

}  // namespace
}  // namespace torusml
