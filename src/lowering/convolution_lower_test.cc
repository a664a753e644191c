// Convolutional networks: circuits compute what the quantized graph says, one table for each
// channel, whatever the layers' geometry.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "circuit/norms.h"
#include "circuit/passes.h"
#include "lowering/reference.h"
#include "quantization/quantize.h"
#include "quantization/test_graph.h"
#include "torusml/error.h"

namespace torusml {
namespace {

using Ints = std::vector<std::int64_t>;

Tensor<double> sample(const Tensor<double>& data, std::int64_t index) {
  Tensor<double> one{data.shape, {}};
  one.shape[0] = 1;
  const std::int64_t width = number_of_elements(one.shape);
  one.data.assign(data.data.begin() + index * width, data.data.begin() + (index + 1) * width);
  return one;
}

// Every sample through the circuit, also after the passes, against the quantized graph. Gives the
// largest distance from the float network.
double check(const FloatGraph& graph, const Tensor<double>& data, int bits, bool qat,
             LoweredModel& model) {
  const QuantizedGraph quantized =
      quantize(graph, {data}, {.bits = QuantizationBits::uniform(bits), .import_qat = qat});
  model = lower(quantized, {data});
  verify(model.circuit);
  const Circuit small = run_passes(model.circuit);
  verify(small);
  double largest = 0;
  for (std::int64_t s = 0; s < data.shape[0]; ++s) {
    const Tensor<double> x = sample(data, s);
    const Integers64 q = model.inputs[0].quantizer.quantize(x.data);
    const auto values = run_circuit(model.circuit, {q});
    EXPECT_FALSE(values.empty()) << "an accumulator left its interval";
    if (values.empty()) return HUGE_VAL;
    const Integers64 y = outputs_of(model.circuit, values).at(0);
    EXPECT_EQ(outputs_of(small, run_circuit(small, {q})).at(0), y);
    const std::vector<double> got = dequantized(model.outputs[0], y);
    const std::vector<double> reference = run_reference(quantized, {x}).outputs.at(0);
    const auto floats = evaluate(graph, {x});
    const std::vector<double>& ideal = floats.at(graph.outputs[0]).values.data;
    for (std::size_t i = 0; i < got.size(); ++i) {
      EXPECT_NEAR(got[i], reference[i], tolerance(model.outputs[0], i));
      largest = std::max(largest, std::abs(got[i] - ideal[i]));
    }
  }
  return largest;
}

std::vector<std::int64_t> table_rows(const Circuit& circuit) {
  std::vector<std::int64_t> rows;
  for (const Node& node : circuit.nodes) {
    if (const auto* lut = std::get_if<Lut>(&node.op)) {
      for (const Table& table : lut->tables) rows.push_back(table.rows);
    }
  }
  return rows;
}

struct Geometry {
  const char* name;
  Shape image;   // channels and spatial axes
  Shape weight;  // out, in / group, kernel
  std::int64_t group;
  Ints strides, dilations, pads;

  friend void PrintTo(const Geometry& g, std::ostream* out) { *out << g.name; }
};

class Convolutions : public testing::TestWithParam<Geometry> {};

// Conv, BatchNorm, Relu, then a linear layer on what is left.
TEST_P(Convolutions, AreLowered) {
  const Geometry& g = GetParam();
  std::mt19937_64 random(3);
  Shape shape = g.image;
  shape.insert(shape.begin(), 1);
  const std::int64_t channels = g.weight[0];
  TestGraph graph;
  graph.input("x", shape)
      .constant("w", random_tensor(random, g.weight))
      .constant("b", random_tensor(random, {channels}))
      .node("Conv", {"x", "w", "b"}, "c",
            {{"group", g.group},
             {"strides", g.strides},
             {"dilations", g.dilations},
             {"pads", g.pads}});
  for (const char* name : {"s", "m", "o", "v"})
    graph.constant(name, random_tensor(random, {channels}, 0.5, 1.5));
  graph.node("BatchNormalization", {"c", "s", "m", "o", "v"}, "n").node("Relu", {"n"}, "r");
  const Shape hidden = TestGraph(graph).output("r").build().shapes.at("r");
  graph.node("Flatten", {"r"}, "f")
      .constant("u", random_tensor(random, {number_of_elements(hidden), 3}))
      .node("Gemm", {"f", "u"}, "y")
      .output("y");
  Shape batch = shape;
  batch[0] = 12;
  const Tensor<double> data = random_tensor(random, batch, -1, 2);
  LoweredModel model;
  const double error = check(graph.build(), data, 6, false, model);
  EXPECT_LT(error, 0.05 * static_cast<double>(number_of_elements(hidden)));
  EXPECT_EQ(table_rows(model.circuit), Ints{channels});
  EXPECT_EQ(lookup_count(model.circuit), number_of_elements(hidden));
  EXPECT_EQ(noise_norms(model.circuit).size(), model.circuit.values.size());
}

INSTANTIATE_TEST_SUITE_P(
    Geometries, Convolutions,
    testing::Values(Geometry{"plain", {1, 6, 6}, {2, 1, 3, 3}, 1, {}, {}, {}},
                    Geometry{"padded", {2, 5, 4}, {3, 2, 3, 3}, 1, {}, {}, {1, 1, 1, 1}},
                    Geometry{"strided", {2, 7, 7}, {3, 2, 3, 3}, 1, {2, 2}, {}, {1, 0, 1, 0}},
                    Geometry{"dilated", {1, 8, 8}, {2, 1, 3, 2}, 1, {}, {2, 3}, {2, 0, 0, 1}},
                    Geometry{"groups", {4, 4, 4}, {6, 2, 2, 2}, 2, {}, {}, {0, 1, 1, 0}},
                    Geometry{"depthwise", {3, 5, 5}, {3, 1, 3, 3}, 3, {2, 2}, {}, {1, 1, 1, 1}},
                    Geometry{"pointwise", {4, 3, 3}, {3, 4, 1, 1}, 1, {}, {}, {}},
                    Geometry{"line", {2, 12}, {3, 2, 4}, 1, {3}, {}, {2, 1}},
                    Geometry{"volume", {1, 4, 4, 3}, {2, 1, 2, 2, 2}, 1, {1, 2, 1}, {}, {}}),
    [](const auto& info) { return std::string(info.param.name); });

TestGraph digits_network(std::mt19937_64& random, bool quantizers) {
  const auto quant = [&](TestGraph& graph, const char* from, const std::string& to, double scale,
                         int bits, bool is_signed) {
    if (!quantizers) return std::string(from);
    graph.quant(from, to, scale, bits, is_signed);
    return to;
  };
  TestGraph graph;
  graph.input("x", {1, 1, 8, 8})
      .constant("w1", random_tensor(random, {4, 1, 3, 3}))
      .constant("w2", random_tensor(random, {6, 4, 3, 3}))
      .constant("w3", random_tensor(random, {24, 5}))
      .constant("b", random_tensor(random, {4}));
  const std::string x = quant(graph, "x", "qx", 0.25, 3, false);
  const std::string w1 = quant(graph, "w1", "qw1", 0.25, 3, true);
  graph.node("Conv", {x, w1, "b"}, "c1", {{"pads", Ints{1, 1, 1, 1}}, {"strides", Ints{2, 2}}})
      .node("Relu", {"c1"}, "r1");
  const std::string r1 = quant(graph, "r1", "qr1", 0.5, 3, false);
  const std::string w2 = quant(graph, "w2", "qw2", 0.25, 3, true);
  graph.node("Conv", {r1, w2}, "c2", {{"pads", Ints{1, 1, 1, 1}}}).node("Relu", {"c2"}, "r2");
  const std::string r2 = quant(graph, "r2", "qr2", 1, 3, false);
  graph.node("AveragePool", {r2}, "p", {{"kernel_shape", Ints{2, 2}}, {"strides", Ints{2, 2}}})
      .node("Flatten", {"p"}, "f");
  const std::string w3 = quant(graph, "w3", "qw3", 0.25, 3, true);
  graph.node("MatMul", {"f", w3}, "y").output("y");
  return graph;
}

TEST(ConvolutionalNetwork, AfterTraining) {
  std::mt19937_64 random(21);
  const FloatGraph graph = digits_network(random, false).build();
  const Tensor<double> data = random_tensor(random, {20, 1, 8, 8}, 0, 1.7);
  LoweredModel model;
  EXPECT_LT(check(graph, data, 6, false, model), 1.5);
  // The pooling is part of the last layer.
  EXPECT_EQ(model.ranges.size(), 3U);
  // A row for each channel, and for each neuron, whose intervals have centres of their own.
  EXPECT_EQ(table_rows(model.circuit), (Ints{4, 6}));
}

// The network's own quantizers: the integers are those of the network.
TEST(ConvolutionalNetwork, WithItsOwnQuantizers) {
  std::mt19937_64 random(22);
  const FloatGraph graph = digits_network(random, true).build();
  const Tensor<double> data = random_tensor(random, {20, 1, 8, 8}, 0, 1.7);
  LoweredModel model;
  EXPECT_LT(check(graph, data, 8, true, model), 1e-9);
  EXPECT_EQ(model.ranges.size(), 3U);
  // A row for each channel, and for each neuron, whose intervals have centres of their own.
  EXPECT_EQ(table_rows(model.circuit), (Ints{4, 6}));
}

// The pooling moves behind what alone reads it, and its integers are those of its operand: with the
// network's own quantizers the maxima are exact.
class MaxPools : public testing::TestWithParam<bool> {};

TEST_P(MaxPools, AreDifferencesAndSums) {
  const bool qat = GetParam();
  std::mt19937_64 random(23);
  TestGraph graph;
  graph.input("x", {1, 1, 8, 8}).constant("w1", random_tensor(random, {2, 1, 3, 3}));
  const auto quant = [&](const std::string& from, double scale, int bits, bool is_signed) {
    if (!qat) return from;
    graph.quant(from, "q_" + from, scale, bits, is_signed);
    return "q_" + from;
  };
  const Ints two{2, 2}, three{3, 3}, ones{1, 1, 1, 1};
  const std::string x = quant("x", 0.25, 3, false), w1 = quant("w1", 0.25, 3, true);
  graph.node("Conv", {x, w1}, "c1", {{"pads", ones}})
      .node("MaxPool", {"c1"}, "m1", {{"kernel_shape", three}, {"strides", two}, {"pads", ones}})
      .node("Relu", {"m1"}, "r1");
  const std::string r1 = quant("r1", 0.5, 3, false);
  graph.constant("w2", random_tensor(random, {3, 2, 1, 1}));
  const std::string w2 = quant("w2", 0.25, 3, true);
  graph.node("Conv", {r1, w2}, "c2").node("Relu", {"c2"}, "r2");
  const std::string r2 = quant("r2", 0.5, 3, false);
  graph.node("MaxPool", {r2}, "m2", {{"kernel_shape", two}, {"strides", two}})
      .node("Flatten", {"m2"}, "f")
      .constant("w3", random_tensor(random, {12, 2}));
  const std::string w3 = quant("w3", 0.25, 3, true);
  graph.node("MatMul", {"f", w3}, "y").output("y");
  const Tensor<double> data = random_tensor(random, {20, 1, 8, 8}, 0, 1.7);
  LoweredModel model;
  EXPECT_LT(check(graph.build(), data, 6, qat, model), qat ? 1e-9 : 0.5);
  // 2 x 8 x 8 behind the convolution, 2 for each place of a row, then of a column; and the same
  // with 1.
  EXPECT_EQ(lookup_count(model.circuit), 128 + 2 * 64 + 2 * 32 + 48 + 24 + 12);
}

INSTANTIATE_TEST_SUITE_P(Both, MaxPools, testing::Bool());

}  // namespace
}  // namespace torusml
