// Circuits of networks that bring their quantizers along, against the quantized graph's definition.

#include <gtest/gtest.h>

#include "lowering/reference.h"
#include "quantization/quantize.h"
#include "quantization/test_graph.h"

namespace torusml {
namespace {

const QuantizationRequest kQat{.bits = QuantizationBits::uniform(6), .import_qat = true};

// Every sample: outputs of the circuit are those of the definition, and of the float network, which
// is the quantized one here (tables at the end may round).
LoweredModel check(const FloatGraph& graph, const Tensor<double>& data, double from_floats) {
  const QuantizedGraph quantized = quantize(graph, {data}, kQat);
  LoweredModel model = lower(quantized, {data});
  verify(model.circuit);
  const auto width = static_cast<std::size_t>(number_of_elements(graph.inputs[0].shape));
  for (std::size_t s = 0; s < static_cast<std::size_t>(data.shape[0]); ++s) {
    Tensor<double> x{graph.inputs[0].shape, {}};
    x.data.assign(data.data.begin() + static_cast<std::ptrdiff_t>(s * width),
                  data.data.begin() + static_cast<std::ptrdiff_t>((s + 1) * width));
    const auto values = run_circuit(model.circuit, {model.inputs[0].quantizer.quantize(x.data)});
    EXPECT_FALSE(values.empty());
    if (values.empty()) break;
    const std::vector<double> y =
        dequantized(model.outputs[0], outputs_of(model.circuit, values).at(0));
    const std::vector<double> exact = run_reference(quantized, {x}).outputs[0];
    const std::vector<double> floats = evaluate(graph, {x}).at(graph.outputs[0]).values.data;
    for (std::size_t i = 0; i < y.size(); ++i) {
      EXPECT_NEAR(y[i], exact[i], quantized.outputs[0].is_table() ? 1e-9 : from_floats);
      EXPECT_NEAR(y[i], floats[i], from_floats);
    }
  }
  return model;
}

TestGraph residual(std::mt19937_64& random) {
  return TestGraph()
      .input("x", {1, 3})
      .quant("x", "qx", 0.125, 4, true)
      .constant("w", random_tensor(random, {3, 3}))
      .quant("w", "qw", 0.25, 3, true, true)
      .node("MatMul", {"qx", "qw"}, "h")
      .node("Relu", {"h"}, "r")
      .quant("r", "a", 0.25, 3, false)
      .node("MatMul", {"a", "qw"}, "g")
      .quant("g", "b", 0.125, 4, true)
      .node("Add", {"a", "b"}, "s");
}

TEST(QatLowering, ResidualSums) {
  std::mt19937_64 random(1);
  const Tensor<double> data = random_tensor(random, {60, 3});
  const LoweredModel raw = check(residual(random).output("s").build(), data, 1e-9);
  EXPECT_EQ(lookup_count(raw.circuit), 6);
  const FloatGraph table = residual(random).node("Sigmoid", {"s"}, "y").output("y").build();
  EXPECT_EQ(lookup_count(check(table, data, 0.01).circuit), 9);
}

TEST(QatLowering, OwnQuantizerAtTheOutput) {
  std::mt19937_64 random(2);
  TestGraph graph = residual(random);
  graph.quant("s", "y", 0.5, 4, true).output("y");
  const LoweredModel model = check(graph.build(), random_tensor(random, {60, 3}), 1e-9);
  EXPECT_EQ(model.outputs[0].scale, std::vector<double>{0.5});
}

TEST(QatLowering, TransposesBehindAQuantizer) {
  std::mt19937_64 random(3);
  const FloatGraph graph =
      TestGraph()
          .input("x", {1, 2, 3})
          .quant("x", "qx", 0.125, 4, true)
          .node("Transpose", {"qx"}, "t", {{"perm", std::vector<std::int64_t>{0, 2, 1}}})
          .constant("w", random_tensor(random, {2, 2}))
          .quant("w", "qw", 0.25, 3, true)
          .node("MatMul", {"t", "qw"}, "h")
          .node("Tanh", {"h"}, "a")
          .quant("a", "y", 0.25, 3, true)
          .output("y")
          .build();
  EXPECT_EQ(lookup_count(check(graph, random_tensor(random, {60, 2, 3}), 1e-9).circuit), 6);
}

// The node's range is no range of QuantizationOptions (0 to 6): the client's is wider, and a table
// clips.
TEST(QatLowering, NarrowUnsignedInputs) {
  std::mt19937_64 random(4);
  const FloatGraph graph = TestGraph()
                               .input("x", {1, 2})
                               .quant("x", "qx", 0.125, 3, false, true)
                               .constant("w", {{2, 1}, {1, -2}})
                               .node("MatMul", {"qx", "w"}, "y")
                               .output("y")
                               .build();
  EXPECT_EQ(lookup_count(check(graph, random_tensor(random, {60, 2}, 0, 1), 1e-9).circuit), 2);
}

// Normalization in front of the first quantizer: the client quantizes plain inputs, a table does
// the rest.
TEST(QatLowering, FunctionsInFrontOfTheFirstQuantizer) {
  std::mt19937_64 random(5);
  const FloatGraph graph = TestGraph()
                               .input("x", {1, 2})
                               .constant("mean", {{2}, {0.5, -0.25}})
                               .node("Sub", {"x", "mean"}, "n")
                               .quant("n", "qx", 0.5, 3, true)
                               .constant("w", {{2, 1}, {1, -2}})
                               .node("MatMul", {"qx", "w"}, "y")
                               .output("y")
                               .build();
  // Inputs of 6 bits may fall into the neighbouring step of the network's own quantizer.
  const LoweredModel model = check(graph, random_tensor(random, {60, 2}, -2, 2), 1.5 + 1e-9);
  EXPECT_EQ(lookup_count(model.circuit), 2);
  EXPECT_EQ(model.inputs[0].quantizer.options().n_bits, 6);
}

TEST(QatLowering, IntegersOnTheirOwnGrid) {
  std::mt19937_64 random(6);
  Tensor<double> data = random_tensor(random, {60, 2}, -8, 8);
  for (double& v : data.data) v = std::nearbyint(v);
  const FloatGraph graph = TestGraph()
                               .input("x", {1, 2})
                               .constant("w1", {{2, 2}, {1, -2, 3, 0}})
                               .constant("low", {{}, {0}})
                               .constant("high", {{}, {15}})
                               .constant("w2", {{2, 1}, {-1, 2}})
                               .constant("b", {{1}, {7}})
                               .node("MatMul", {"x", "w1"}, "h")
                               .node("Clip", {"h", "low", "high"}, "c")
                               .node("Gemm", {"c", "w2", "b"}, "y")
                               .output("y")
                               .build();
  const LoweredModel model = check(graph, data, 1e-9);
  EXPECT_EQ(model.outputs[0].scale, std::vector<double>{1});
  EXPECT_EQ(lookup_count(model.circuit), 2);
}

}  // namespace
}  // namespace torusml
