// Circuits that lowering makes: by hand, against the quantized graph's own definition on random
// networks, and wrong use.

#include "lowering/lower.h"

#include <fmt/format.h>
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

template <class Call>
Error error_of(const Call& call) {
  try {
    call();
  } catch (const Error& error) {
    return error;
  }
  return {ErrorCode::internal, "no error"};
}

bool contains(const Error& error, const std::string& text) {
  return std::string(error.what()).find(text) != std::string::npos;
}

std::vector<Tensor<double>> sample(const std::vector<Tensor<double>>& data, std::int64_t index) {
  std::vector<Tensor<double>> result;
  for (const Tensor<double>& batch : data) {
    Tensor<double> one{batch.shape, {}};
    one.shape[0] = 1;
    const std::int64_t width = number_of_elements(one.shape);
    one.data.assign(batch.data.begin() + index * width, batch.data.begin() + (index + 1) * width);
    result.push_back(std::move(one));
  }
  return result;
}

struct Compiled {
  QuantizedGraph quantized;
  LoweredModel model;

  std::vector<Integers64> run(const Circuit& circuit, const std::vector<Tensor<double>>& x) const {
    std::vector<Integers64> inputs;
    for (std::size_t i = 0; i < x.size(); ++i)
      inputs.push_back(model.inputs[i].quantizer.quantize(x[i].data));
    const auto values = run_circuit(circuit, inputs);
    return values.empty() ? std::vector<Integers64>() : outputs_of(circuit, values);
  }
};

Compiled compile(const FloatGraph& graph, const std::vector<Tensor<double>>& data, int bits,
                 bool qat = false, const LoweringOptions& options = {}) {
  Compiled result;
  result.quantized =
      quantize(graph, data, {.bits = QuantizationBits::uniform(bits), .import_qat = qat});
  result.model = lower(result.quantized, data, options);
  verify(result.model.circuit);
  return result;
}

// The circuit on every sample: outputs are those of the quantized graph, also after the passes;
// gives the largest distance from the float network.
double check_against_reference(const Compiled& compiled, const std::vector<Tensor<double>>& data) {
  const Circuit small = run_passes(compiled.model.circuit);
  verify(small);
  double largest = 0;
  for (std::int64_t s = 0; s < data[0].shape[0]; ++s) {
    const std::vector<Tensor<double>> x = sample(data, s);
    const std::vector<Integers64> y = compiled.run(compiled.model.circuit, x);
    EXPECT_FALSE(y.empty()) << "an accumulator left its interval on calibration data";
    if (y.empty()) return HUGE_VAL;
    EXPECT_EQ(compiled.run(small, x), y);
    const ReferenceRun reference =
        run_reference(compiled.quantized, x, compiled.model.removed_bits);
    const auto floats = evaluate(compiled.quantized.graph, x);
    for (std::size_t o = 0; o < y.size(); ++o) {
      const LoweredOutput& output = compiled.model.outputs[o];
      const std::vector<double> got = dequantized(output, y[o]);
      const std::vector<double>& ideal = floats.at(output.name).values.data;
      for (std::size_t i = 0; i < got.size(); ++i) {
        EXPECT_NEAR(got[i], reference.outputs[o][i], tolerance(output, i)) << output.name;
        largest = std::max(largest, std::abs(got[i] - ideal[i]));
      }
    }
  }
  return largest;
}

// Encodings of channels change no result.
void check_equal(const Compiled& a, const Compiled& b, const std::vector<Tensor<double>>& data) {
  for (std::int64_t s = 0; s < data[0].shape[0]; ++s) {
    const std::vector<Tensor<double>> x = sample(data, s);
    EXPECT_EQ(a.run(a.model.circuit, x), b.run(b.model.circuit, x));
  }
}

// Factors of channels leave every lookup's noise as it is.
void check_noise(const Compiled& plain, const Compiled& scaled) {
  const std::vector<NoiseNorms> before = noise_norms(plain.model.circuit),
                                after = noise_norms(scaled.model.circuit);
  ASSERT_EQ(before.size(), after.size());
  for (std::size_t v = 0; v < before.size(); ++v) {
    EXPECT_LE(after[v].fresh, before[v].fresh);
    EXPECT_LE(after[v].bootstrap, before[v].bootstrap);
  }
}

std::int64_t lut_nodes(const Circuit& circuit) {
  return std::ranges::count_if(
      circuit.nodes, [](const Node& node) { return std::holds_alternative<Lut>(node.op); });
}

// x in {0..3}^2, accumulators (-x0, 4 x1), worth 2 each; y = relu(h) / 2.
Compiled two_channels(const LoweringOptions& options) {
  const FloatGraph graph = TestGraph()
                               .input("x", {1, 2})
                               .quant("x", "q", 1, 2, false)
                               .constant("w", {{2, 2}, {-2, 0, 0, 8}})
                               .node("MatMul", {"q", "w"}, "h")
                               .node("Relu", {"h"}, "r")
                               .quant("r", "y", 2, 4, false)
                               .output("y")
                               .build();
  return compile(graph, {Tensor<double>{{2, 2}, {0, 0, 3, 3}}}, 4, true, options);
}

TEST(Lower, ChannelsAreCentred) {
  const Compiled plain = two_channels({.margin = 0, .centre_channels = false});
  EXPECT_EQ(plain.model.ranges[0].declared, (Interval{-3, 12}));
  const Compiled centred = two_channels({.margin = 0});
  EXPECT_EQ(centred.model.ranges[0].declared, (Interval{-6, 6}));
  EXPECT_EQ(std::get<Linear>(centred.model.circuit.nodes[1].op).bias, (Integers64{1, -6}));
  const Table& table = std::get<Lut>(centred.model.circuit.nodes[2].op).tables[0];
  EXPECT_EQ(table.rows, 2);
  EXPECT_EQ(table.at(0, 1), 0);
  EXPECT_EQ(table.at(0, 3), 2) << "beyond the channel's own range, too";
  EXPECT_EQ(table.at(1, -6 + 4), 4);
}

TEST(Lower, ChannelsAreScaledAsFarAsTheLongestRow) {
  const Compiled scaled = two_channels({.margin = 0, .scale_channels = true});
  const Linear& linear = std::get<Linear>(scaled.model.circuit.nodes[1].op);
  EXPECT_EQ(std::get<DenseWeight>(linear.terms[0].weight).data, (Integers64{-4, 0, 0, 4}));
  EXPECT_EQ(linear.bias, (Integers64{6, -6}));
  EXPECT_EQ(scaled.model.ranges[0].declared, (Interval{-6, 6}));
  EXPECT_EQ(scaled.model.ranges[0].calibrated, (Interval{-6, 6}));
  const Table& table = std::get<Lut>(scaled.model.circuit.nodes[2].op).tables[0];
  for (std::int64_t x = 0; x <= 3; ++x) EXPECT_EQ(table.at(0, 6 - 4 * x), 0);
}

// Accumulators from -3 to 12 take 5 bits with their sign; rounded to 3 bits, multiples of 4 remain.
TEST(Lower, AccumulatorsAreRoundedHalfUp) {
  const Compiled compiled = two_channels({.margin = 0, .rounding_bits = 3});
  EXPECT_EQ(compiled.model.removed_bits, (std::map<std::string, int>{{"h", 2}}));
  const Table& table = std::get<Lut>(compiled.model.circuit.nodes[2].op).tables[0];
  const auto at = [&](std::int64_t h) { return table.at(1, h - 6); };  // shifted by 6
  EXPECT_EQ((Integers64{at(0), at(1), at(2), at(5), at(6), at(9), at(10), at(12)}),
            (Integers64{0, 0, 4, 4, 8, 8, 12, 12}));
  EXPECT_EQ(two_channels({.margin = 0, .rounding_bits = 5}).model.removed_bits.size(), 0U);
}

// By hand: x in {0..3}, h = 2 x0 - x1 + 0.5, Relu, one more layer.
TEST(Lower, ByHand) {
  const FloatGraph graph = TestGraph()
                               .input("x", {1, 2})
                               .quant("x", "q", 1, 2, false)
                               .constant("w", {{2, 1}, {2, -1}})
                               .constant("b", {{1}, {0.5}})
                               .node("MatMul", {"q", "w"}, "p")
                               .node("Add", {"p", "b"}, "h")
                               .node("Relu", {"h"}, "r")
                               .quant("r", "s", 2, 2, false)
                               .constant("v", {{1, 2}, {1, -1}})
                               .constant("c", {{2}, {1, 5}})
                               .node("Gemm", {"s", "v", "c"}, "y")
                               .output("y")
                               .build();
  const Tensor<double> x{{4, 2}, {0, 3, 3, 0, 1, 1, 2, 1}};
  const Compiled compiled = compile(graph, {x}, 3, true);
  const Circuit& circuit = compiled.model.circuit;
  ASSERT_EQ(circuit.nodes.size(), 5U);
  EXPECT_EQ(circuit.values[0], (TensorType{{2}, {0, 3}}));
  EXPECT_EQ(std::get<DenseWeight>(std::get<Linear>(circuit.nodes[1].op).terms[0].weight).data,
            (Integers64{2, -1}));
  EXPECT_EQ(circuit.values[1], (TensorType{{1}, {-3, 6}}));
  EXPECT_EQ(circuit.nodes[2].name, "Relu_r");
  const Table& table = std::get<Lut>(circuit.nodes[2].op).tables.at(0);
  EXPECT_EQ(table.name, "Relu_r");
  EXPECT_EQ(table.domain, (Interval{-3, 6}));
  // rint(relu(v + 0.5) / 2): halves go to even.
  EXPECT_EQ(table.entries, (Integers64{0, 0, 0, 0, 1, 1, 2, 2, 3, 3}));
  // Outputs leave as accumulators: scale 2, bias 1 / 2 and 5 / 2 rounded half to even; the halves
  // that this takes away go into the zero point.
  const Linear& last = std::get<Linear>(circuit.nodes[3].op);
  EXPECT_EQ(last.bias, (Integers64{0, 2}));
  EXPECT_EQ(compiled.model.outputs[0].scale, std::vector<double>{2});
  EXPECT_EQ(compiled.model.outputs[0].zero_point, std::vector<double>{-0.5});
  EXPECT_EQ(compiled.run(circuit, {Tensor<double>{{1, 2}, {3, 0}}}),
            (std::vector<Integers64>{{3, -1}}));
  ASSERT_EQ(compiled.model.ranges.size(), 2U);
  EXPECT_EQ(compiled.model.ranges[0].calibrated, (Interval{-3, 6}));
  EXPECT_TRUE(compiled.model.ranges[0].feeds_table);
  EXPECT_FALSE(compiled.model.ranges[1].feeds_table);
}

// The bias in steps of its scale, 1/4: 3.25, -0.5 (a half goes to even) and 2^-20, which no zero
// point of 16 bits holds. Two results of one layer have zero points of their own.
TEST(Lower, WhatRoundingTakesFromABiasStaysInTheZeroPoint) {
  const auto network = [](const std::vector<double>& bias, bool again) {
    TestGraph graph;
    graph.input("x", {1, 2})
        .quant("x", "q", 0.25, 3, true)
        .constant("w", {{2, 3}, {1, 2, 3, -1, 0, 1}})
        .quant("w", "qw", 1, 3, true)
        .constant("b", {{3}, bias})
        .constant("c", {{3}, {0, 0.125, 0.25}})
        .node("Gemm", {"q", "qw", "b"}, "y")
        .output("y");
    if (again) graph.node("Sub", {"y", "c"}, "z").output("z");
    return graph.build();
  };
  const std::vector<Tensor<double>> data{{{3, 2}, {0.5, -0.25, -1, 0.75, 0.25, 0}}};
  const std::vector<double> bias{0.8125, -0.125, 0x1p-22};
  const Compiled one = compile(network(bias, false), data, 3, true);
  EXPECT_EQ(std::get<Linear>(one.model.circuit.nodes[1].op).bias, (Integers64{3, 0, 0}));
  EXPECT_EQ(one.model.outputs[0].zero_point, (std::vector<double>{-0.25, 0.5, 0}));
  check_against_reference(one, data);
  const Compiled two = compile(network(bias, true), data, 3, true);
  EXPECT_EQ(two.model.outputs[0].zero_point, (std::vector<double>{-0.25, 0.5, 0}));
  EXPECT_EQ(two.model.outputs[1].zero_point, (std::vector<double>{-0.25, 0, 0}));
  check_against_reference(two, data);
  const Compiled whole = compile(network({0.75, -0.5, 0}, false), data, 3, true);
  EXPECT_EQ(whole.model.outputs[0].zero_point, std::vector<double>{0});
}

TEST(Lower, NetworksWithoutActivationsHaveNoTable) {
  std::mt19937_64 random(4);
  const FloatGraph graph =
      TestGraph()
          .input("x", {1, 3})
          .input("z", {1, 2})
          .constant("w1", random_tensor(random, {3, 4}))
          .constant("w2", random_tensor(random, {4, 3}))
          .constant("w3", random_tensor(random, {2, 3}))
          .constant("gamma", random_tensor(random, {3}, 0.5, 1))
          .constant("var", random_tensor(random, {3}, 0.5, 2))
          .constant("half", {{}, {0.5}})
          .node("MatMul", {"x", "w1"}, "a")
          .node("Mul", {"a", "half"}, "b")
          .node("MatMul", {"b", "w2"}, "c")
          .node("MatMul", {"z", "w3"}, "d")
          .node("Add", {"c", "d"}, "e")
          .node("BatchNormalization", {"e", "gamma", "gamma", "var", "var"}, "y")
          .output("y")
          .output("c")
          .build();
  const std::vector<Tensor<double>> data{random_tensor(random, {60, 3}),
                                         random_tensor(random, {60, 2}, -3, 1)};
  const Compiled compiled = compile(graph, data, 8);
  EXPECT_EQ(lookup_count(compiled.model.circuit), 0);
  EXPECT_EQ(compiled.model.outputs[0].scale.size(), 3U) << "one per channel";
  EXPECT_LT(check_against_reference(compiled, data), 0.1);
}

TEST(Lower, OneTableForEachActivation) {
  std::mt19937_64 random(5);
  const FloatGraph graph =
      TestGraph()
          .input("x", {1, 4})
          .constant("w1", random_tensor(random, {4, 6}))
          .constant("b1", random_tensor(random, {6}))
          .constant("gamma", random_tensor(random, {6}, 0.5, 1))
          .constant("var", random_tensor(random, {6}, 0.5, 2))
          .constant("w2", random_tensor(random, {6, 5}))
          .constant("w3", random_tensor(random, {5, 2}))
          .node("Gemm", {"x", "w1", "b1"}, "a")
          .node("BatchNormalization", {"a", "gamma", "gamma", "var", "var"}, "n")
          .node("Sigmoid", {"n"}, "g")
          .node("Mul", {"n", "g"}, "silu")
          .node("MatMul", {"silu", "w2"}, "h")
          .node("Tanh", {"h"}, "t")
          .node("MatMul", {"t", "w3"}, "y")
          .output("y")
          .build();
  const std::vector<Tensor<double>> data{random_tensor(random, {80, 4}, -2, 2)};
  const Compiled compiled = compile(graph, data, 7);
  EXPECT_EQ(lookup_count(compiled.model.circuit), 6 + 5);
  EXPECT_EQ(lut_nodes(compiled.model.circuit), 2);
  EXPECT_LT(check_against_reference(compiled, data), 0.1);
}

TEST(Lower, SeveralQuantizersOfATensorAreOneLookup) {
  std::mt19937_64 random(6);
  const FloatGraph graph = TestGraph()
                               .input("x", {1, 3})
                               .constant("w", random_tensor(random, {3, 3}))
                               .constant("v", random_tensor(random, {3, 3}, -4, 4))
                               .node("MatMul", {"x", "w"}, "h")
                               .node("Relu", {"h"}, "r")
                               .node("MatMul", {"r", "v"}, "g")
                               .node("LeakyRelu", {"g"}, "t")
                               .node("Add", {"r", "t"}, "s")
                               .node("Sigmoid", {"s"}, "y")
                               .node("Abs", {"h"}, "z")
                               .output("y")
                               .output("z")
                               .output("y")
                               .build();
  const std::vector<Tensor<double>> data{random_tensor(random, {80, 3}, -2, 2)};
  const Compiled compiled = compile(graph, data, 6);
  EXPECT_EQ(lut_nodes(compiled.model.circuit), 3);
  for (const Node& node : compiled.model.circuit.nodes) {
    if (const auto* lut = std::get_if<Lut>(&node.op)) {
      EXPECT_EQ(lut->tables.size(), lut->operand == 1 ? 3U : 1U);
    }
  }
  EXPECT_EQ(output_nodes(compiled.model.circuit).size(), 3U);
  EXPECT_LT(check_against_reference(compiled, data), 0.2);
}

TEST(Lower, OutputsThatAreInputs) {
  const FloatGraph graph = TestGraph()
                               .input("x", {1, 2})
                               .constant("b", {{2}, {1, -3}})
                               .node("Neg", {"x"}, "y")
                               .node("Add", {"x", "b"}, "z")
                               .output("x")
                               .output("y")
                               .output("z")
                               .output("x")
                               .build();
  const std::vector<Tensor<double>> data{Tensor<double>{{3, 2}, {-1, 0, 4, 2, 3, 1}}};
  const Compiled compiled = compile(graph, data, 8);
  EXPECT_EQ(lookup_count(compiled.model.circuit), 0);
  EXPECT_LT(check_against_reference(compiled, data), 0.04);
  const Integers64& zero_point = compiled.model.inputs[0].quantizer.parameters().zero_point;
  EXPECT_EQ(compiled.model.outputs[0].zero_point,
            std::vector<double>(zero_point.begin(), zero_point.end()));
}

TEST(Lower, TransposesAndConstantsOnTheLeft) {
  std::mt19937_64 random(7);
  const FloatGraph graph =
      TestGraph()
          .input("x", {1, 2, 3})
          .constant("left", random_tensor(random, {4, 3}))
          .constant("right", random_tensor(random, {2, 2}))
          .integers("flat", {-1, 8})
          .node("Relu", {"x"}, "r")
          .node("Transpose", {"r"}, "t", {{"perm", std::vector<std::int64_t>{0, 2, 1}}})
          .node("MatMul", {"left", "t"}, "l")
          .node("MatMul", {"l", "right"}, "m")
          .node("Tanh", {"m"}, "a")
          .node("Transpose", {"a"}, "u", {{"perm", std::vector<std::int64_t>{0, 2, 1}}})
          .node("Reshape", {"u", "flat"}, "y")
          .node("Transpose", {"x"}, "z", {{"perm", std::vector<std::int64_t>{0, 2, 1}}})
          .output("y")
          .output("z")
          .build();
  const std::vector<Tensor<double>> data{random_tensor(random, {50, 2, 3}, -2, 2)};
  const Compiled compiled = compile(graph, data, 7);
  EXPECT_LT(check_against_reference(compiled, data), 0.1);
}

TEST(Lower, SumsOfDifferentShapes) {
  std::mt19937_64 random(8);
  const FloatGraph graph = TestGraph()
                               .input("x", {1, 2, 3})
                               .input("b", {1, 1, 3})
                               .node("Tanh", {"x"}, "t")
                               .node("Relu", {"b"}, "r")
                               .node("Sub", {"t", "r"}, "d")
                               .node("Abs", {"d"}, "y")
                               .output("y")
                               .build();
  const std::vector<Tensor<double>> data{random_tensor(random, {50, 2, 3}, -2, 2),
                                         random_tensor(random, {50, 1, 3}, -2, 2)};
  EXPECT_LT(check_against_reference(compile(graph, data, 8), data), 0.05);
}

// A random network: dense layers, residual sums, activations, batch normalization, two inputs.
FloatGraph random_network(std::mt19937_64& random) {
  const auto pick = [&](int n) { return static_cast<int>(random() % static_cast<unsigned>(n)); };
  TestGraph graph;
  std::vector<std::pair<std::string, std::int64_t>> tensors;
  for (int i = 0; i <= pick(2); ++i) {
    const std::int64_t width = 1 + pick(4);
    graph.input(fmt::format("x{}", i), {1, width});
    tensors.push_back({fmt::format("x{}", i), width});
  }
  const std::vector<std::string> activations{"Relu", "Tanh", "Sigmoid", "Abs", "LeakyRelu", "Sign"};
  const int steps = 2 + pick(6);
  for (int step = 0; step < steps; ++step) {
    const auto [from, width] =
        tensors[tensors.size() - 1 -
                static_cast<std::size_t>(pick(std::min<int>(3, static_cast<int>(tensors.size()))))];
    const std::string name = fmt::format("t{}", step);
    std::int64_t new_width = width;
    switch (pick(6)) {
      case 0:
      case 1:
        new_width = 1 + pick(5);
        graph.constant(name + "w", random_tensor(random, {new_width, width}))
            .constant(name + "b", random_tensor(random, {new_width}))
            .node("Gemm", {from, name + "w", name + "b"}, name, {{"transB", std::int64_t{1}}});
        break;
      case 2:
      case 3:
        graph.node(activations[static_cast<std::size_t>(pick(6))], {from}, name);
        break;
      case 4:
        graph.constant(name + "g", random_tensor(random, {width}, 0.5, 2))
            .constant(name + "v", random_tensor(random, {width}, 0.5, 2))
            .node("BatchNormalization", {from, name + "g", name + "g", name + "v", name + "v"},
                  name);
        break;
      default: {
        std::string other = from;
        for (const auto& [tensor, w] : tensors) {
          if (w == width) other = tensor;
        }
        graph.node(pick(2) ? "Add" : "Sub", {from, other}, name);
        if (other == from) graph.node("Relu", {name}, name + "r");
      }
    }
    tensors.push_back({name, new_width});
  }
  graph.output(tensors.back().first);
  if (pick(2))
    graph.output(tensors[static_cast<std::size_t>(pick(static_cast<int>(tensors.size())))].first);
  return graph.build();
}

TEST(Lower, RandomNetworksComputeWhatTheirQuantizedGraphSays) {
  double worst = 0;  // at 6 bits
  bool was_rounded = false;
  for (std::uint64_t seed = 1; seed <= 150; ++seed) {
    SCOPED_TRACE(fmt::format("seed {}", seed));
    std::mt19937_64 random(seed);
    const FloatGraph graph = random_network(random);
    std::vector<Tensor<double>> data;
    for (const GraphInput& input : graph.inputs) {
      Shape shape = input.shape;
      shape[0] = 12;
      data.push_back(random_tensor(random, shape, -1, 2));
    }
    const int bits = 2 + static_cast<int>(seed % 5);
    const LoweringOptions options{.prefer_guaranteed_same_bits = seed % 2 == 0,
                                  .scale_channels = seed % 3 == 0,
                                  .rounding_bits = seed % 4 == 0 ? 4 : 0};
    const Compiled compiled = compile(graph, data, bits, false, options);
    const double error = check_against_reference(compiled, data);
    LoweringOptions plain{.centre_channels = false, .removed_bits = compiled.model.removed_bits};
    check_equal(compile(graph, data, bits, false, plain), compiled, data);
    if (options.scale_channels) {
      LoweringOptions shifted = options;
      shifted.scale_channels = false;
      check_noise(compile(graph, data, bits, false, shifted), compiled);
    }
    was_rounded = was_rounded || !compiled.model.removed_bits.empty();
    if (bits == 6 && options.rounding_bits == 0) worst = std::max(worst, error);
    for (const NodeRange& range : compiled.model.ranges) {
      EXPECT_LE(range.guaranteed.lower, range.declared.lower);
      EXPECT_GE(range.guaranteed.upper, range.declared.upper);
      EXPECT_LE(range.declared.lower, range.calibrated.lower);
      EXPECT_GE(range.declared.upper, range.calibrated.upper);
    }
    // What lowering calls guaranteed is what the circuit's own interval arithmetic finds.
    const std::vector<Interval> guaranteed = guaranteed_intervals(compiled.model.circuit);
    std::size_t next = 0;
    for (const Node& node : compiled.model.circuit.nodes) {
      const auto* linear = std::get_if<Linear>(&node.op);
      if (linear == nullptr || next == compiled.model.ranges.size() ||
          compiled.model.ranges[next].name != node.name)
        continue;
      EXPECT_EQ(guaranteed[linear->result], compiled.model.ranges[next++].guaranteed) << node.name;
    }
    EXPECT_EQ(next, compiled.model.ranges.size());
    if (testing::Test::HasFailure()) break;
  }
  EXPECT_GT(worst, 0);
  EXPECT_TRUE(was_rounded);
  RecordProperty("largest_error_at_6_bits", std::to_string(worst));
}

TEST(Lower, FunctionsThatEndAreHeldAtTheirEnd) {
  const FloatGraph graph = TestGraph()
                               .input("x", {1, 2})
                               .constant("w", {{2, 2}, {1, 0, 0, 1}})
                               .constant("b", {{2}, {0, 4}})
                               .node("Gemm", {"x", "w", "b"}, "h")
                               .node("Log", {"h"}, "y")
                               .output("y")
                               .build();
  const Tensor<double> x{{3, 2}, {1, -3, 3, -1, 2, -2}};
  const Compiled compiled = compile(graph, {x}, 5, false, {.margin = 0.5});
  for (const Node& node : compiled.model.circuit.nodes) {
    if (const auto* lut = std::get_if<Lut>(&node.op)) {
      EXPECT_EQ(lut->tables[0].rows, 2);
    }
  }
  // The second channel is 4 more: the first one's logarithm ends where the second's does not.
  EXPECT_LT(check_against_reference(compiled, {x}), 0.2);

  FloatGraph bad = graph;
  bad.constants["b"].values.data = {-2, 4};
  EXPECT_EQ(error_of([&] { compile(bad, {x}, 5); }).code(), ErrorCode::non_finite_value);
}

TEST(Lower, AccumulatorsThatAreTooWideAreNamed) {
  std::mt19937_64 random(9);
  const auto network = [&](bool activation) {
    TestGraph graph;
    graph.input("x", {1, 20})
        .constant("w", random_tensor(random, {20, 2}))
        .node("MatMul", {"x", "w"}, "h");
    if (activation) graph.node("Relu", {"h"}, "y");
    return graph.output(activation ? "y" : "h").build();
  };
  const std::vector<Tensor<double>> data{random_tensor(random, {30, 20})};
  const Error error = error_of([&] { compile(network(true), data, 9); });
  EXPECT_EQ(error.code(), ErrorCode::accumulator_too_wide);
  for (const char* text : {"'MatMul_h'", "bits at a table lookup", "pruning", "n_bits"})
    EXPECT_TRUE(contains(error, text)) << error.what();
  EXPECT_EQ(lookup_count(compile(network(false), data, 9).model.circuit), 0)
      << "no table, no limit";
  EXPECT_EQ(error_of([&] { compile(network(false), data, 26); }).code(),
            ErrorCode::accumulator_too_wide)
      << "53 bits";
}

TEST(Lower, WrongUse) {
  std::mt19937_64 random(10);
  const FloatGraph graph =
      TestGraph().input("x", {1, 2}).node("Relu", {"x"}, "y").output("y").build();
  const std::vector<Tensor<double>> data{random_tensor(random, {30, 2})};
  const QuantizedGraph quantized = quantize(graph, data, {});
  EXPECT_EQ(error_of([&] { lower(quantized, {}); }).code(), ErrorCode::empty_calibration);
  EXPECT_EQ(error_of([&] {
              lower(quantized, {random_tensor(random, {30, 3})});
            }).code(),
            ErrorCode::wrong_shape);
  EXPECT_EQ(error_of([&] { lower(quantized, data, {.margin = -1}); }).code(),
            ErrorCode::invalid_argument);
  EXPECT_EQ(error_of([&] { lower(quantized, data, {.margin = std::nan("")}); }).code(),
            ErrorCode::invalid_argument);
}

}  // namespace
}  // namespace torusml
