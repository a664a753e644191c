// Whole networks by every method: steps by channel, errors on new samples, the same twice, and
// wrong use.

#include "quantization/methods.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "quantization/batch_normalization.h"
#include "quantization/linear_layers.h"
#include "quantization/quantize.h"
#include "quantization/step_thresholds.h"
#include "quantization/test_graph.h"
#include "quantization/tied_weights.h"
#include "torusml/error.h"

namespace torusml {
namespace {

using Method = QuantizationMethod;

constexpr Method kSimple[] = {Method::minmax, Method::percentile, Method::mse, Method::entropy};

// Gemm, Relu, Gemm, Relu, Gemm, with channels of very different size.
FloatGraph dense_network(std::uint64_t seed, std::int64_t outputs = 4) {
  std::mt19937_64 random(seed);
  TestGraph graph;
  graph.input("x", {1, 6});
  std::string last = "x";
  std::int64_t width = 6;
  for (const std::int64_t next : {std::int64_t{12}, std::int64_t{10}, outputs}) {
    const std::string name = "l" + std::to_string(next);
    Tensor<double> weight = random_tensor(random, {next, width});
    for (std::int64_t c = 0; c < next; ++c) {
      for (std::int64_t k = 0; k < width; ++k)
        weight.data[static_cast<std::size_t>(c * width + k)] *= std::ldexp(1.0, c % 4);
    }
    graph.constant(name + "w", weight).constant(name + "b", random_tensor(random, {next}));
    graph.node("Gemm", {last, name + "w", name + "b"}, name, {{"transB", std::int64_t{1}}});
    last = name;
    if (next != outputs) graph.node("Relu", {name}, last = name + "r");
    width = next;
  }
  return graph.output(last).build();
}

// Conv with zero padding, normalization, Relu, Conv, Relu, Gemm.
// The last layer has 20 inputs, with stride 1 80.
FloatGraph convolutional_network(std::uint64_t seed, std::int64_t stride = 2,
                                 std::int64_t outputs = 1) {
  std::mt19937_64 random(seed);
  return TestGraph()
      .input("x", {1, 1, 5, 5})
      .constant("w1", random_tensor(random, {4, 1, 3, 3}))
      .node("Conv", {"x", "w1"}, "c1", {{"pads", std::vector<std::int64_t>{1, 1, 1, 1}}})
      .constant("s", random_tensor(random, {4}, 0.2, 3))
      .constant("o", random_tensor(random, {4}))
      .constant("m", random_tensor(random, {4}))
      .constant("v", random_tensor(random, {4}, 0.5, 2))
      .node("BatchNormalization", {"c1", "s", "o", "m", "v"}, "n1")
      .node("Relu", {"n1"}, "r1")
      .constant("w2", random_tensor(random, {5, 4, 2, 2}))
      .constant("b2", random_tensor(random, {5}))
      .node("Conv", {"r1", "w2", "b2"}, "c2",
            {{"strides", std::vector<std::int64_t>{stride, stride}}})
      .node("Relu", {"c2"}, "r2")
      .node("Flatten", {"r2"}, "f")
      .constant("w3", random_tensor(random, {stride == 2 ? 20 : 80, outputs}))
      .node("MatMul", {"f", "w3"}, "y")
      .output("y")
      .build();
}

Tensor<double> samples(const Shape& shape, std::int64_t count, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  Shape all = shape;
  all[0] = count;
  return random_tensor(random, all);
}

double relative_error(const FloatGraph& graph, const QuantizedGraph& quantized,
                      const Tensor<double>& x) {
  const std::vector<double> expected = evaluate(graph, {x}).at(graph.outputs[0]).values.data;
  const std::vector<double> found = evaluate_quantized(quantized, {x})[0];
  double error = 0, squares = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    error += std::pow(expected[i] - found[i], 2);
    squares += std::pow(expected[i], 2);
  }
  return error / squares;
}

QuantizationRequest request(Method method, int bits = 3) {
  return {.bits = QuantizationBits::uniform(bits), .method = method};
}

Error error_of(const FloatGraph& graph, const Tensor<double>& x, const QuantizationRequest& asked) {
  try {
    quantize(graph, {x}, asked);
  } catch (const Error& error) {
    return error;
  }
  return {ErrorCode::internal, "no error"};
}

TEST(QuantizationMethods, GiveChannelsTheirOwnStepButOutputsOne) {
  const FloatGraph graph = dense_network(1);
  for (const Method method : kSimple) {
    const QuantizedGraph q = quantize(graph, {samples({1, 6}, 200, 2)}, request(method));
    EXPECT_EQ(q.layers[0].scale.size(), 12U) << to_string(method);
    EXPECT_EQ(q.layers[2].scale.size(), 1U);
    EXPECT_EQ(q.inputs[0].quantizer.options().n_bits, 5) << "inputs have the model's bits";
    const auto& weight = std::get<DenseWeight>(q.layers[1].operands[0].weight);
    for (std::int64_t row = 0; row < weight.rows; ++row) {
      std::int64_t largest = 0;
      for (std::int64_t k = 0; k < weight.columns; ++k)
        largest = std::max(largest, std::abs(weight.data[static_cast<std::size_t>(row * 12 + k)]));
      EXPECT_GE(largest, 3) << "row " << row;
    }
  }
}

TEST(QuantizationMethods, StepsByChannelLowerTheError) {
  const Tensor<double> x = samples({1, 6}, 400, 3), fresh = samples({1, 6}, 400, 4);
  double compatible = 0, by_channel = 0;
  for (std::uint64_t seed = 0; seed < 6; ++seed) {
    const FloatGraph graph = dense_network(seed);
    QuantizationRequest same_inputs = request(Method::minmax);
    same_inputs.bits.model_inputs = 3;
    compatible += relative_error(graph, quantize(graph, {x}, request(Method::compatible)), fresh);
    by_channel += relative_error(graph, quantize(graph, {x}, same_inputs), fresh);
  }
  EXPECT_LT(by_channel, 0.8 * compatible);
}

TEST(QuantizationMethods, BestHasTheLeastErrorOnNewSamples) {
  const Tensor<double> x = samples({1, 6}, 160, 5), fresh = samples({1, 6}, 300, 6);
  for (std::uint64_t seed = 0; seed < 2; ++seed) {
    const FloatGraph graph = dense_network(seed, 1);
    const double best = relative_error(graph, quantize(graph, {x}, request(Method::best)), fresh);
    for (const Method method : kSimple) {
      EXPECT_LT(best, 0.7 * relative_error(graph, quantize(graph, {x}, request(method)), fresh))
          << to_string(method) << ", network " << seed;
    }
  }
}

TEST(QuantizationMethods, BestOfAClassifierKeepsItsClasses) {
  const Tensor<double> x = samples({1, 6}, 160, 5), fresh = samples({1, 6}, 300, 6);
  const FloatGraph graph = dense_network(0);
  const auto classes = [](const std::vector<double>& outputs) {
    std::vector<std::ptrdiff_t> result;
    for (auto row = outputs.begin(); row != outputs.end(); row += 4)
      result.push_back(std::max_element(row, row + 4) - row);
    return result;
  };
  const auto expected = classes(evaluate(graph, {fresh}).at("l4").values.data);
  const auto kept = [&](Method method) {
    const QuantizedGraph quantized = quantize(graph, {x}, request(method));
    const auto found = classes(evaluate_quantized(quantized, {fresh})[0]);
    int same = 0;
    for (std::size_t i = 0; i < found.size(); ++i) same += found[i] == expected[i];
    return same;
  };
  const int best = kept(Method::best);
  for (const Method method : kSimple) EXPECT_GT(best, kept(method)) << to_string(method);
}

TEST(QuantizationMethods, BestOfConvolutions) {
  const Shape shape{1, 1, 5, 5};
  const Tensor<double> x = samples(shape, 160, 7), fresh = samples(shape, 300, 8);
  const FloatGraph graph = convolutional_network(1);
  const QuantizedGraph best = quantize(graph, {x}, request(Method::best));
  const QuantizedGraph mse = quantize(graph, {x}, request(Method::mse));
  EXPECT_LT(relative_error(graph, best, fresh), relative_error(graph, mse, fresh));
  // All places of a channel have its step.
  const std::vector<double>& scale = best.layers[0].scale;
  ASSERT_EQ(scale.size(), 100U);
  for (std::size_t e = 0; e < scale.size(); ++e) EXPECT_EQ(scale[e], scale[e / 25 * 25]);
}

// 80 inputs a neuron, 128 samples that are fitted: the fit would follow them, and not what is new.
TEST(QuantizationMethods, BestWithFewSamplesIsNoWorseOnNewOnes) {
  const Shape shape{1, 1, 5, 5};
  const Tensor<double> x = samples(shape, 160, 7), fresh = samples(shape, 300, 8);
  double best = 0, mse = 0;
  for (std::uint64_t seed = 1; seed <= 3; ++seed) {
    const FloatGraph graph = convolutional_network(seed, 1, 3);
    best += relative_error(graph, quantize(graph, {x}, request(Method::best)), fresh);
    mse += relative_error(graph, quantize(graph, {x}, request(Method::mse)), fresh);
  }
  EXPECT_LT(best, mse);
}

TEST(QuantizationMethods, BestIsTheSameTwice) {
  const FloatGraph graph = convolutional_network(2);
  const Tensor<double> x = samples({1, 1, 5, 5}, 80, 9);
  const QuantizedGraph a = quantize(graph, {x}, request(Method::best));
  const QuantizedGraph b = quantize(graph, {x}, request(Method::best));
  for (std::size_t l = 0; l < a.layers.size(); ++l) {
    EXPECT_TRUE(a.layers[l].operands[0].weight == b.layers[l].operands[0].weight);
    EXPECT_EQ(a.layers[l].scale, b.layers[l].scale);
    EXPECT_EQ(a.layers[l].bias, b.layers[l].bias);
    EXPECT_EQ(a.layers[l].operands[0].quantizer, b.layers[l].operands[0].quantizer);
  }
}

TEST(QuantizationMethods, BestKeepsAccumulatorsNarrow) {
  const FloatGraph graph = dense_network(3);
  const Tensor<double> x = samples({1, 6}, 200, 10);
  QuantizationRequest narrow = request(Method::best);
  narrow.accumulator_bits = 6;
  const QuantizedGraph q = quantize(graph, {x}, narrow);
  const QuantizedOperand& operand = q.layers[0].operands[0];
  const auto& weight = std::get<DenseWeight>(operand.weight);
  const std::vector<std::int64_t> integers = operand.quantizer.quantize(x.data);
  for (std::int64_t row = 0; row < weight.rows; ++row) {
    std::int64_t lower = INT64_MAX, upper = INT64_MIN;
    for (std::size_t s = 0; s < 200; ++s) {
      std::int64_t sum = 0;
      for (std::size_t k = 0; k < 6; ++k)
        sum += weight.data[static_cast<std::size_t>(row) * 6 + k] * integers[s * 6 + k];
      lower = std::min(lower, sum);
      upper = std::max(upper, sum);
    }
    EXPECT_LE(upper - lower, 64) << "of samples that were fitted, and of those that were not";
  }
}

TEST(QuantizationMethods, BestOfNetworksThatAreNoChain) {
  std::mt19937_64 random(4);
  const FloatGraph graph = TestGraph()
                               .input("x", {1, 5})
                               .constant("w", random_tensor(random, {5, 8}))
                               .node("MatMul", {"x", "w"}, "a")
                               .node("Relu", {"a"}, "ra")
                               .constant("v", random_tensor(random, {8, 8}))
                               .node("MatMul", {"ra", "v"}, "b")
                               .node("Relu", {"b"}, "rb")
                               .node("Add", {"ra", "rb"}, "sum")
                               .node("Sigmoid", {"sum"}, "s")
                               .constant("u", random_tensor(random, {8, 1}))
                               .node("MatMul", {"s", "u"}, "y")
                               .output("y")
                               .build();
  const Tensor<double> x = samples({1, 5}, 300, 11), fresh = samples({1, 5}, 300, 12);
  const QuantizedGraph best = quantize(graph, {x}, request(Method::best, 4));
  const QuantizedGraph mse = quantize(graph, {x}, request(Method::mse, 4));
  EXPECT_LE(relative_error(graph, best, fresh), relative_error(graph, mse, fresh));
}

TEST(QuantizationMethods, BestWithoutLinearLayers) {
  const FloatGraph graph =
      TestGraph().input("x", {1, 4}).node("Abs", {"x"}, "y").output("y").build();
  const Tensor<double> x = samples({1, 4}, 100, 13);
  const QuantizedGraph best = quantize(graph, {x}, request(Method::best, 6));
  EXPECT_LT(relative_error(graph, best, x), 0.05);
}

TEST(QuantizationMethods, WrongUse) {
  const FloatGraph graph = dense_network(1);
  const Tensor<double> x = samples({1, 6}, 40, 1);
  QuantizationRequest asked = request(Method::mse);
  asked.import_qat = true;
  EXPECT_EQ(error_of(graph, x, asked).code(), ErrorCode::invalid_argument);
  for (const double percentile : {50.0, 100.5, std::nan("")}) {
    asked = request(Method::percentile);
    asked.percentile = percentile;
    EXPECT_EQ(error_of(graph, x, asked).code(), ErrorCode::invalid_argument) << percentile;
    EXPECT_EQ(error_of(graph, x, asked).where(), "percentile");
  }
  asked = request(Method::best);
  asked.accumulator_bits = 17;
  EXPECT_EQ(error_of(graph, x, asked).code(), ErrorCode::invalid_argument);
  asked = request(Method::mse);
  asked.accumulator_bits = 8;
  EXPECT_EQ(error_of(graph, x, asked).code(), ErrorCode::invalid_argument);
  asked = request(Method::minmax);
  asked.bits.op_weights = 1;
  EXPECT_EQ(error_of(graph, x, asked).code(), ErrorCode::unsupported_bits);
  EXPECT_EQ(error_of(graph, samples({1, 6}, 31, 1), request(Method::best)).code(),
            ErrorCode::calibration_too_small);
  try {
    parse_quantization_method("adaround");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::unknown_option);
  }
}

TEST(FoldBatchNormalization, KeepsTheFunction) {
  FloatGraph graph = convolutional_network(5);
  const Tensor<double> x = samples({1, 1, 5, 5}, 20, 13);
  const std::vector<double> before = evaluate(graph, {x}).at("y").values.data;
  const std::size_t nodes = graph.nodes.size();
  fold_batch_normalization(graph);
  EXPECT_EQ(graph.nodes.size(), nodes - 1);
  const std::vector<double> after = evaluate(graph, {x}).at("y").values.data;
  for (std::size_t i = 0; i < before.size(); ++i) EXPECT_NEAR(before[i], after[i], 1e-9);
}

TEST(FoldBatchNormalization, LeavesWhatOthersReadToo) {
  FloatGraph graph = TestGraph()
                         .input("x", {1, 2})
                         .constant("w", {{2, 2}, {1, 2, 3, 4}})
                         .node("Gemm", {"x", "w"}, "a")
                         .constant("one", {{2}, {1, 2}})
                         .node("BatchNormalization", {"a", "one", "one", "one", "one"}, "n")
                         .node("Relu", {"a"}, "r")
                         .node("Add", {"n", "r"}, "y")
                         .output("y")
                         .build();
  fold_batch_normalization(graph);
  EXPECT_EQ(graph.nodes.size(), 4U);
}

TEST(TiedWeights, OfAPaddedConvolutionAreTheKernel) {
  std::mt19937_64 random(6);
  const FloatGraph graph = convolutional_network(6);
  const Network network(graph);
  const std::vector<LinearLayer> layers = linear_layers(network, {});
  const FloatMap& map = layers[0].terms[0].map;
  const std::optional<TiedWeights> tied = tie_weights(map, {1, 4, 5, 5});
  ASSERT_TRUE(tied);
  EXPECT_EQ(tied->channels, 4);
  EXPECT_EQ(tied->parameters, 9);
  EXPECT_EQ(tied->positions, 25);
  ASSERT_EQ(tied->patterns.size(), 1U);
  EXPECT_EQ(tied->value, graph.constants.at("w1").values.data);
  EXPECT_EQ(std::ranges::count(tied->patterns[0].column, -1), 9 * 25 - 169) << "the padding";
  std::vector<std::int64_t> numbers(36);
  for (std::size_t i = 0; i < numbers.size(); ++i) numbers[i] = static_cast<std::int64_t>(i) + 1;
  const std::vector<std::int64_t> entries = tied->entries(numbers);
  for (std::size_t e = 0; e < entries.size(); ++e) {
    if (entries[e] == 0) continue;
    EXPECT_EQ(map.value[e], tied->value[static_cast<std::size_t>(entries[e]) - 1]);
  }
}

TEST(StepThresholds, AreTheTable) {
  const UniformQuantizer quantizer({.n_bits = 2}, {{0.5}, {0}, 0});
  std::mt19937_64 random(7);
  const FloatTensor values{ElementType::floating, random_tensor(random, {200, 2}, -2, 3)};
  const auto relu = [](const FloatTensor& y) {
    std::vector<double> result = y.values.data;
    for (double& v : result) v = std::max(v, 0.0);
    return result;
  };
  const std::optional<Eigen::ArrayXXf> found = step_thresholds(values, quantizer, relu);
  ASSERT_TRUE(found);
  for (Eigen::Index e = 0; e < 2; ++e) {
    EXPECT_NEAR((*found)(e, 0), 0.25, 1e-6);
    EXPECT_NEAR((*found)(e, 1), 0.75, 1e-6);
    EXPECT_NEAR((*found)(e, 2), 1.25, 1e-6);
  }
  const auto falling = [&](const FloatTensor& y) {
    std::vector<double> result = y.values.data;
    for (double& v : result) v = -v;
    return result;
  };
  EXPECT_FALSE(step_thresholds(values, quantizer, falling));
}

}  // namespace
}  // namespace torusml
