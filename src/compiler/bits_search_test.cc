#include "compiler/bits_search.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "base/testing/errors.h"
#include "compiler/quantized_module.h"
#include "quantization/test_graph.h"
#include "torusml/error.h"

namespace torusml {
namespace {

// 6 - 8 - 8 - 4 neurons with random weights.
FloatGraph make_network() {
  std::mt19937_64 random(4);
  TestGraph graph;
  graph.input("x", {1, 6});
  graph.constant("w1", random_tensor(random, {6, 8}));
  graph.constant("w2", random_tensor(random, {8, 8}));
  graph.constant("w3", random_tensor(random, {8, 4}));
  graph.node("MatMul", {"x", "w1"}, "s1").node("Relu", {"s1"}, "r1");
  graph.node("MatMul", {"r1", "w2"}, "s2").node("Relu", {"s2"}, "r2");
  return graph.node("MatMul", {"r2", "w3"}, "y").output("y").build();
}

Tensor<double> samples(std::int64_t count) {
  std::mt19937_64 random(11);
  return random_tensor(random, {count, 6});
}

BitsSearch exact_search(double agreement) {
  BitsSearch search;
  search.request.method = QuantizationMethod::mse;
  search.plan.precision = Precision::exact;
  search.target = {.criterion = Criterion::argmax, .least_agreement = agreement};
  return search;
}

double agreement(const FloatGraph& graph, const QuantizedModule& module, const Tensor<double>& x) {
  const Tensor<double> expected = evaluate(graph, {x}).at("y").values;
  const Tensor<double> found =
      module.dequantize_outputs(module.run_clear(module.quantize_inputs({x})))[0];
  const auto largest = [](const Tensor<double>& y, std::ptrdiff_t row) {
    const auto first = y.data.begin() + 4 * row;
    return std::max_element(first, first + 4) - first;
  };
  std::ptrdiff_t same = 0;
  for (std::ptrdiff_t row = 0; row < x.shape[0]; ++row)
    same += largest(expected, row) == largest(found, row) ? 1 : 0;
  return static_cast<double>(same) / static_cast<double>(x.shape[0]);
}

double cost(const FloatGraph& graph, const Tensor<double>& x, const QuantizationRequest& request) {
  return make_plan(QuantizedModule::build(graph, {x}, request).circuit(), {}).cost_ms_per_core;
}

Error error_of(const BitsSearch& search, std::int64_t count = 600) {
  try {
    search_bits(make_network(), {samples(count)}, search);
  } catch (const Error& error) {
    return error;
  }
  return Error(ErrorCode::internal, "no error");
}

// Some weights or operands have fewer bits than others, and that is faster than the same for all.
TEST(BitsSearch, SavesBitsLayerByLayer) {
  const FloatGraph graph = make_network();
  const Tensor<double> x = samples(900);
  const BitsFound found = search_bits(graph, {x}, exact_search(0.95));
  const QuantizedModule module = QuantizedModule::build(graph, {x}, found.request);
  EXPECT_GE(agreement(graph, module, x), 0.93);
  EXPECT_LE(found.report.loss, 0.05);
  ASSERT_FALSE(found.request.layers.empty());
  QuantizationRequest uniform = found.request;
  uniform.layers.clear();
  EXPECT_LT(cost(graph, x, found.request), cost(graph, x, uniform));
  QuantizationRequest finest = uniform;
  finest.bits = QuantizationBits::uniform(7);
  EXPECT_LT(cost(graph, x, found.request), 0.7 * cost(graph, x, finest));
  for (const QuantizedLayer& layer : module.quantized_graph().layers) {
    const auto own = found.request.layers.find(layer.output);
    const LayerBits bits = own == found.request.layers.end()
                               ? LayerBits{uniform.bits.op_inputs, uniform.bits.op_weights}
                               : own->second;
    const auto& weight = std::get<DenseWeight>(layer.operands[0].weight);
    EXPECT_LT(std::ranges::max(weight.data), 1 << (bits.weights - 1)) << layer.name;
    if (layer.operands[0].tensor == "x") continue;
    EXPECT_EQ(layer.operands[0].quantizer.options().n_bits, bits.inputs) << layer.name;
  }
}

TEST(BitsSearch, RepeatsItselfWithinItsTrials) {
  const FloatGraph graph = make_network();
  BitsSearch search = exact_search(0.95);
  search.max_trials = 16;
  std::size_t last = 0, total = 0;
  search.progress = [&](std::size_t done, std::size_t all) { last = done, total = all; };
  const BitsFound once = search_bits(graph, {samples(300)}, search);
  const BitsFound again = search_bits(graph, {samples(300)}, search);
  EXPECT_EQ(once.request.layers, again.request.layers);
  EXPECT_EQ(once.request.bits.op_weights, again.request.bits.op_weights);
  EXPECT_LE(once.report.trials, 16);
  EXPECT_EQ(last, static_cast<std::size_t>(again.report.trials));
  EXPECT_GE(total, last);
  ASSERT_EQ(once.report.layers.size(), 3U);
  EXPECT_EQ(once.report.layers[0].name, "MatMul_s1");
}

TEST(BitsSearch, FollowsThePrecisionThatIsAskedFor) {
  const FloatGraph graph = make_network();
  BitsSearch search = exact_search(0.95);
  search.plan.precision = Precision::tolerant;
  const BitsFound found = search_bits(graph, {samples(600)}, search);
  const auto time = [&](const QuantizationRequest& request) {
    return make_plan(QuantizedModule::build(graph, {samples(600)}, request).circuit(), search.plan)
        .cost_ms_per_core;
  };
  QuantizationRequest finest = found.request;
  finest.bits = QuantizationBits::uniform(7);
  finest.layers.clear();
  EXPECT_LE(time(found.request), time(finest));
}

// With few bits a network of 6 - 4 - 2 neurons has a key set that cannot pack results.
TEST(BitsSearch, PassesOverBitsWhoseResultsCannotBePacked) {
  std::mt19937_64 random(4);
  TestGraph small;
  small.input("x", {1, 6});
  small.constant("w1", random_tensor(random, {6, 4})).constant("w2", random_tensor(random, {4, 2}));
  small.node("MatMul", {"x", "w1"}, "s").node("Relu", {"s"}, "r");
  const FloatGraph graph = small.node("MatMul", {"r", "w2"}, "y").output("y").build();
  BitsSearch search = exact_search(0.6);
  search.request.method = QuantizationMethod::compatible;
  search.plan.pack_outputs = PackOutputs::on;
  const auto is_packed = [&](const QuantizationRequest& request) {
    const QuantizedModule module = QuantizedModule::build(graph, {samples(600)}, request);
    return make_plan(module.circuit(), search.plan).outputs.begin()->second.packed;
  };
  QuantizationRequest coarsest = search.request;
  coarsest.bits = QuantizationBits::uniform(2);
  ASSERT_EQ(code_of([&] { is_packed(coarsest); }), ErrorCode::not_supported);
  EXPECT_TRUE(is_packed(search_bits(graph, {samples(600)}, search).request));
}

TEST(BitsSearch, ChoosesForMethodBestToo) {
  BitsSearch search = exact_search(0.95);
  search.request.method = QuantizationMethod::best;
  search.request.accumulator_bits = 9;
  const BitsFound found = search_bits(make_network(), {samples(300)}, search);
  EXPECT_EQ(found.request.method, QuantizationMethod::best);
  EXPECT_EQ(found.request.accumulator_bits, 9);
  EXPECT_NO_THROW(QuantizedModule::build(make_network(), {samples(300)}, found.request));
}

TEST(BitsSearch, RefusesWhatCannotBe) {
  BitsSearch qat = exact_search(0.95);
  qat.request.import_qat = true;
  EXPECT_EQ(error_of(qat).code(), ErrorCode::invalid_argument);
  BitsSearch few = exact_search(0.95);
  few.max_trials = 3;
  EXPECT_EQ(error_of(few).code(), ErrorCode::invalid_argument);
  EXPECT_EQ(error_of(exact_search(0.999), 100).code(), ErrorCode::calibration_too_small);
  BitsSearch strict = exact_search(0.95);
  strict.target = {.criterion = Criterion::relative_error, .most_relative_error = 1e-6};
  const Error missed = error_of(strict);
  EXPECT_EQ(missed.code(), ErrorCode::target_not_met);
  EXPECT_NE(missed.message().find("the best has 0.0"), std::string::npos) << missed.what();
}

}  // namespace
}  // namespace torusml
