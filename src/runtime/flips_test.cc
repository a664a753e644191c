#include "runtime/flips.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <random>

#include "base/threads.h"
#include "parameters/noise.h"
#include "plan/client_spec.h"
#include "random/test_seed.h"
#include "runtime/block_noise.h"
#include "runtime/executors.h"
#include "runtime/testing/encrypted_flips.h"
#include "tfhe/secret_keys.h"
#include "tfhe/testing/insecure_parameters.h"

namespace torusml {
namespace {

using Integers = std::vector<Tensor<std::int64_t>>;
using Function = std::function<std::int64_t(std::int64_t)>;

// The keyswitch is as noisy as that of a real key set.
constexpr TfheParameters kNoisy = [] {
  TfheParameters p = kInsecure;
  p.small_variance = {0x1p-32};
  p.glwe_variance = {0x1p-80};
  return p;
}();

// The same with noise in what bootstraps give.
TfheParameters noisy_results() {
  TfheParameters p = kNoisy;
  p.small_variance = {0x1p-36};
  p.glwe_variance = {0x1p-45};
  return p;
}

ParameterSearch only(const TfheParameters& p) {
  return [p](const ParameterRequest& request, std::string*) {
    return apply_key_sets({p}, std::vector<std::size_t>(request.constraints.size(), 0), request);
  };
}

Table make_table(const std::string& name, Interval domain, const Function& function) {
  Table table{name, domain, 1, {}, {}};
  for (std::int64_t v = domain.lower; v <= domain.upper; ++v) table.entries.push_back(function(v));
  return table;
}

Interval range_of(const Table& table) {
  const auto [least, most] = std::ranges::minmax_element(table.entries);
  return {*least, *most};
}

// x, a table, y.
Circuit one_lookup(Interval domain, std::int64_t elements, const Function& function) {
  const Table table = make_table("f", domain, function);
  Circuit circuit;
  circuit.name = "one";
  circuit.values = {{{elements}, domain}, {{elements}, range_of(table)}};
  circuit.nodes = {{"x", Input{0}}, {"f", Lut{0, {table}, {1}}}, {"y", Output{1}}};
  return circuit;
}

Integers inputs_of(const Circuit& circuit, std::int64_t batch, const Function& value) {
  Tensor<std::int64_t> x{{batch, circuit.values[0].shape[0]}, {}};
  for (std::int64_t i = 0; i < number_of_elements(x.shape); ++i) x.data.push_back(value(i));
  return {std::move(x)};
}

std::int64_t identity(std::int64_t v) { return v; }

Torus phase_of(const Plan& plan, ValueId value, double integer) {
  const TensorPlan& tensor = plan.tensors[value];
  return encode_units(static_cast<long double>(integer - tensor.center), tensor.scale);
}

// Keys, encryption, run and decryption under one insecure or secure plan.
class Encrypted {
 public:
  explicit Encrypted(const Plan& plan, std::uint64_t seed = 1)
      : random_(TestSeed::make(seed)),
        secret_(SecretKeys::generate(plan.key_sets[0].parameters, random_)) {
    for (const TfheParameters& p : parameters_of(plan.key_sets))
      keys_.push_back(EvaluationKeys::prepare(make_evaluation_keys(secret_, p, random_)));
  }

  Integers run(const Circuit& circuit, const Plan& plan, const Integers& inputs,
               FlipCounts& counts) {
    const TensorPlan& tensor = plan.tensors[0];
    std::vector<Torus> phases;
    for (const std::int64_t v : inputs[0].data)
      phases.push_back(encode(v, tensor.scale, tensor.center));
    const std::vector<LweBatch> results =
        run_encrypted(circuit, plan, keys_, {expand(encrypt(secret_, phases, random_))}, {}, {},
                      flip_counter(circuit, plan, secret_, counts));
    Integers outputs;
    const std::vector<const Node*> nodes = output_nodes(circuit);
    for (std::size_t o = 0; o < nodes.size(); ++o) {
      const ValueId value = std::get<Output>(nodes[o]->op).operand;
      Tensor<std::int64_t> y{{inputs[0].shape[0], circuit.values[value].shape[0]}, {}};
      for (const Torus phase : decrypt(secret_, results[o])) {
        y.data.push_back(decode(phase, plan.tensors[value].scale, plan.tensors[value].center,
                                circuit.values[value].interval));
      }
      outputs.push_back(std::move(y));
    }
    return outputs;
  }

 private:
  SecretGenerator random_;
  SecretKeys secret_;
  std::vector<EvaluationKeys> keys_;
};

// Counts that agree within `sigmas` standard deviations of their difference.
void expect_same_rate(std::uint64_t a, std::uint64_t a_events, std::uint64_t b,
                      std::uint64_t b_events, const char* what, double sigmas = 5) {
  const double events = static_cast<double>(a_events) + static_cast<double>(b_events);
  const double p = (static_cast<double>(a) + static_cast<double>(b)) / events;
  const double rate_a = static_cast<double>(a) / static_cast<double>(a_events);
  const double rate_b = static_cast<double>(b) / static_cast<double>(b_events);
  const double sigma = std::sqrt(
      p * (1 - p) * (1 / static_cast<double>(a_events) + 1 / static_cast<double>(b_events)));
  EXPECT_NEAR(rate_a, rate_b, sigmas * sigma)
      << what << ": " << a << " of " << a_events << ", " << b << " of " << b_events;
}

TEST(Flips, AnEventIsJudgedByItsTwoPhases) {
  const Circuit circuit =
      one_lookup({-8, 7}, 1, [](std::int64_t v) { return 10 * (8 - std::abs(v)); });
  const Plan plan = make_plan(circuit, {});
  const LookupJudge judge(circuit, plan, 1);
  const auto judged = [&](double value, double result) {
    const Torus operand = phase_of(plan, 0, value), read = phase_of(plan, 1, result);
    LookupCounts counts;
    judge.count(0, 0, {&operand, 1}, {&read, 1}, counts);
    return counts;
  };
  const LookupCounts right{1, 0, 0, 0}, flip{1, 1, 0, 0}, far{1, 1, 1, 0}, wrap{1, 1, 1, 1};
  EXPECT_EQ(judged(3, 50), right);
  EXPECT_EQ(judged(3.4, 50.4), right);  // to the nearest integers
  EXPECT_EQ(judged(3.6, 50), flip);
  EXPECT_EQ(judged(3, 40), flip);
  EXPECT_EQ(judged(3, 60), flip);
  EXPECT_EQ(judged(3, 70), far);
  EXPECT_EQ(judged(3, 51), far);  // no entry at all
  EXPECT_EQ(judged(7, 10), right);
  EXPECT_EQ(judged(9.2, 10), right);  // beyond the domain its end counts
  EXPECT_EQ(judged(7, 0), far);
  // Minus the entry at -8, which is 0, about the middle of [0, 80].
  EXPECT_EQ(judged(7, 80), wrap);
  EXPECT_EQ(judged(-8, 70), wrap);
  EXPECT_EQ(judged(-8, 80), far);
}

// A rectifier: minus the entry at the other end is also an entry that is near.
TEST(Flips, WhatTheTableHasNearerIsNoWrap) {
  const Circuit circuit =
      one_lookup({-8, 7}, 1, [](std::int64_t v) { return std::max<std::int64_t>(v, 0); });
  const Plan plan = make_plan(circuit, {});
  LookupCounts counts;
  const Torus operand = phase_of(plan, 0, 4), read = phase_of(plan, 1, 7);
  LookupJudge(circuit, plan, 1).count(0, 0, {&operand, 1}, {&read, 1}, counts);
  EXPECT_EQ(counts, (LookupCounts{1, 1, 1, 0}));
}

TEST(Flips, OddLookupsWrapToTheOtherEnd) {
  const Circuit circuit = one_lookup({-8, 7}, 1, [](std::int64_t v) { return v < 0 ? 0 : 1; });
  const Plan plan = make_plan(circuit, {});
  ASSERT_TRUE(plan.lookups.at(1).is_odd);
  const LookupJudge judge(circuit, plan, 1);
  const auto judged = [&](double value, double result) {
    const Torus operand = phase_of(plan, 0, value), read = phase_of(plan, 1, result);
    LookupCounts counts;
    judge.count(0, 0, {&operand, 1}, {&read, 1}, counts);
    return counts;
  };
  EXPECT_EQ(judged(7, 1), (LookupCounts{1, 0, 0, 0}));
  EXPECT_EQ(judged(0, 0), (LookupCounts{1, 1, 0, 0}));
  EXPECT_EQ(judged(-1, 1), (LookupCounts{1, 1, 0, 0}));
  EXPECT_EQ(judged(7, 0), (LookupCounts{1, 1, 1, 1}));
  EXPECT_EQ(judged(-8, 1), (LookupCounts{1, 1, 1, 1}));
}

TEST(Flips, CountsAddUpByNode) {
  FlipCounts a{{1, {4, 3, 2, 1}}, {3, {1, 0, 0, 0}}};
  a += FlipCounts{{3, {9, 2, 0, 0}}, {5, {1, 1, 1, 1}}};
  EXPECT_EQ(a, (FlipCounts{{1, {4, 3, 2, 1}}, {3, {10, 2, 0, 0}}, {5, {1, 1, 1, 1}}}));
  EXPECT_EQ(total(a), (LookupCounts{15, 6, 3, 2}));
  EXPECT_DOUBLE_EQ(a.at(3).flip_rate(), 0.2);
  EXPECT_DOUBLE_EQ(LookupCounts{}.flip_rate(), 0);
}

// Every entry of a one to one table shows the index that was read. Borders lie on entries (64
// values) or beside them.
TEST(Flips, SimulatedRatesAreThePlans) {
  for (const Interval domain : {Interval{-32, 31}, Interval{-26, 25}}) {
    SCOPED_TRACE(domain.size());
    const Circuit circuit = one_lookup(domain, 200, identity);
    const Plan plan = make_plan(circuit, {.p_error = 0.5, .key_set_source = KeySetSource::custom});
    const LookupPlan& lookup = plan.lookups.at(1);
    const Integers inputs =
        inputs_of(circuit, 1000, [](std::int64_t i) { return (i * 7919) % 43 - 21; });
    FlipCounts counts;
    run_simulated(circuit, plan, inputs, 1, {}, &counts);
    const LookupCounts& found = counts.at(1);
    EXPECT_EQ(found.events, 200'000u);
    EXPECT_EQ(found.wraps, 0u);
    EXPECT_GT(lookup.step_probability, 0.25);
    EXPECT_GT(lookup.far_probability, 0.002);
    const auto expect_near = [&](double rate, double expected) {
      const double sigma = std::sqrt(expected * (1 - expected) / 2e5);
      EXPECT_NEAR(rate, expected, 5 * sigma + 0.01 * expected);
    };
    expect_near(found.flip_rate(), lookup.step_probability);
    expect_near(found.flip_rate(), lookup.flip_probability * 1.01);  // ends have one neighbour
    expect_near(found.far_rate(), lookup.far_probability);
  }
}

// At both ends of the interval, with a table whose negated ends can be told from its entries.
TEST(Flips, SimulatedWrapsAreThePlans) {
  const Circuit circuit =
      one_lookup({-150, 150}, 100, [](std::int64_t v) { return 150 - std::abs(v); });
  const Plan plan = make_plan(circuit, {.precision = Precision::tolerant, .p_error = 0x1p-6});
  const Integers inputs =
      inputs_of(circuit, 2000, [](std::int64_t i) { return i % 2 == 0 ? -150 : 150; });
  FlipCounts counts;
  run_simulated(circuit, plan, inputs, 1, {}, &counts);
  const double expected = 2e5 * plan.lookups.at(1).wrap_probability;
  EXPECT_GT(expected, 500);
  EXPECT_NEAR(static_cast<double>(counts.at(1).wraps), expected,
              5 * std::sqrt(expected) + 0.02 * expected);
}

TEST(Simulated, ASampleDependsOnItsSeedAndIndexAlone) {
  const Circuit circuit = one_lookup({-60, 60}, 21, identity);
  const Plan plan = make_plan(circuit, {.precision = Precision::tolerant, .tolerance = 0.02});
  const Integers inputs = inputs_of(circuit, 250, [](std::int64_t i) { return i % 91 - 45; });
  FlipCounts counts;
  const Integers all = run_simulated(circuit, plan, inputs, 7, {}, &counts);
  EXPECT_NE(run_simulated(circuit, plan, inputs, 8), all);
  for (const std::int64_t batch : {1, 3, 96, 97, 200}) {
    Integers some = inputs;
    some[0].shape[0] = batch;
    some[0].data.resize(static_cast<std::size_t>(21 * batch));
    for (const int threads : {1, 2}) {
      with_threads(threads, [&] {
        const Integers results = run_simulated(circuit, plan, some, 7);
        EXPECT_TRUE(std::ranges::equal(results[0].data,
                                       std::span(all[0].data).first(results[0].data.size())))
            << batch;
      });
    }
  }
  FlipCounts again;
  with_threads(1, [&] { EXPECT_EQ(run_simulated(circuit, plan, inputs, 7, {}, &again), all); });
  EXPECT_EQ(again, counts);
}

TEST(BlockNoise, IsGaussianToItsTail) {
  constexpr std::size_t kLanes = 16, kRows = 8, kRounds = 20000;
  for (const double sigma : {0x1p-40, 0x1p-7, 0.02}) {
    BlockNoise noise(1, 0, kLanes);
    noise.start(3);
    std::vector<Torus> words(kLanes * kRows);
    double sum = 0, square = 0, fourth = 0, neighbours = 0;
    std::uint64_t beyond_4 = 0;
    for (std::size_t round = 0; round < kRounds; ++round) {
      noise.fill(words, sigma);
      for (std::size_t i = 0; i < words.size(); ++i) {
        const double x =
            std::ldexp(static_cast<double>(static_cast<std::int64_t>(words[i])), -64) / sigma;
        sum += x;
        square += x * x;
        fourth += x * x * x * x;
        beyond_4 += std::abs(x) > 4 ? 1 : 0;
        neighbours +=
            i == 0 ? 0
                   : x *
                         std::ldexp(static_cast<double>(static_cast<std::int64_t>(words[i - 1])),
                                    -64) /
                         sigma;
      }
    }
    const double n = static_cast<double>(kRounds * words.size());
    EXPECT_NEAR(sum / n, 0, 5 / std::sqrt(n));
    EXPECT_NEAR(square / n, 1, 5 * std::sqrt(2 / n));
    EXPECT_NEAR(fourth / n, 3, 5 * std::sqrt(96 / n));
    EXPECT_NEAR(neighbours / n, 0, 5 / std::sqrt(n));
    const double expected = n * tail_probability(4);
    EXPECT_NEAR(static_cast<double>(beyond_4), expected, 5 * std::sqrt(expected));
  }
}

TEST(BlockNoise, WideNoiseGoesRoundTheTorus) {
  BlockNoise noise(1, 0, 16);
  noise.start(0);
  std::vector<Torus> words(16 * 1000);
  noise.fill(words, 0.3);
  double square = 0;  // of a Gaussian of 0.3 turns, taken modulo a turn
  for (const Torus word : words) {
    const double x = std::ldexp(static_cast<double>(static_cast<std::int64_t>(word)), -64);
    square += x * x;
  }
  EXPECT_NEAR(square / 16000, 0.0662, 0.003);
  noise.fill(words, 0);
  EXPECT_TRUE(std::ranges::all_of(words, [](Torus word) { return word == 0; }));
}

// Two layers of 24 lookups; every table is one to one on its domain.
Circuit two_layers(std::uint64_t seed) {
  constexpr std::int64_t kWidth = 24;
  std::mt19937_64 random(seed);
  Circuit circuit;
  circuit.name = "two layers";
  circuit.values = {{{kWidth}, {-2, 2}}};
  circuit.nodes = {{"x", Input{0}}};
  for (int layer = 0; layer < 2; ++layer) {
    const auto operand = static_cast<ValueId>(circuit.values.size() - 1);
    DenseWeight weight{kWidth, kWidth, {}};
    for (std::int64_t i = 0; i < kWidth * kWidth; ++i)
      weight.data.push_back(std::uniform_int_distribution<std::int64_t>(-1, 1)(random));
    const Interval interval{-30, 30};
    const auto clip = [](std::int64_t v) {
      return std::clamp<std::int64_t>((v + 30) / 3 % 5 - 2, -2, 2);
    };
    circuit.values.push_back({{kWidth}, interval});
    circuit.values.push_back({{kWidth}, {-2, 2}});
    circuit.nodes.push_back({"fc", Linear{{{operand, weight}}, {}, operand + 1}});
    const std::string name = "act" + std::to_string(layer);
    circuit.nodes.push_back(
        {name, Lut{operand + 1, {make_table(name, interval, clip)}, {operand + 2}}});
  }
  circuit.nodes.push_back({"y", Output{static_cast<ValueId>(circuit.values.size() - 1)}});
  return circuit;
}

TEST(Flips, EncryptedAsOftenAsSimulatedAtTestSize) {
  const Circuit circuit = two_layers(1);
  verify(circuit);
  const Plan plan =
      make_plan(circuit, {.precision = Precision::tolerant, .tolerance = 0.05}, only(kNoisy));
  Encrypted encrypted(plan);
  const auto value = [](std::int64_t i) { return (i * 7919) % 5 - 2; };
  FlipCounts real, simulated;
  encrypted.run(circuit, plan, inputs_of(circuit, 300, value), real);
  run_simulated(circuit, plan, inputs_of(circuit, 3000, value), 1, {}, &simulated);
  ASSERT_EQ(real.size(), 2u);
  for (const auto& [node, counts] : real) {
    const LookupCounts& other = simulated.at(node);
    EXPECT_EQ(counts.events, 300u * 24);
    EXPECT_EQ(other.events, 3000u * 24);
    EXPECT_GT(counts.flips, 300u);
    expect_same_rate(counts.flips, counts.events, other.flips, other.events, "flips");
    expect_same_rate(counts.far, counts.events, other.far, other.events, "far");
  }
}

// Of results a, b, c of bootstraps: a + b, a + b + 1, -(a + b), a + c, and a neuron without
// weights; a table of each; what is left where a + b meets -(a + b); and the difference of two
// neurons that are the same.
Circuit shared_sources() {
  const Interval small{-4, 4}, sum{-9, 9};
  Circuit circuit;
  circuit.name = "shared";
  circuit.values = {{{24}, small}, {{24}, small}};
  circuit.nodes = {{"x", Input{0}},
                   {"source", Lut{0, {make_table("source", small, identity)}, {1}}}};
  const auto add_linear = [&](const std::vector<std::int64_t>& abc, std::int64_t bias) {
    const auto result = static_cast<ValueId>(circuit.values.size());
    SparseRows weight(24);
    for (std::int64_t row = 0; row < 8; ++row) {
      for (std::size_t i = 0; i < 3; ++i) {
        if (abc[i] == 0) continue;
        weight.add(3 * row + static_cast<std::int64_t>(i), abc[i]);
      }
      weight.end_row();
    }
    circuit.values.push_back({{8}, sum});
    circuit.nodes.push_back(
        {"sum" + std::to_string(result),
         Linear{{{1, weight.finish()}}, std::vector<std::int64_t>(8, bias), result}});
    return result;
  };
  const auto add_lookup = [&](ValueId operand) {
    const auto result = static_cast<ValueId>(circuit.values.size());
    const std::string name = "table" + std::to_string(result);
    circuit.values.push_back({{8}, sum});
    circuit.nodes.push_back({name, Lut{operand, {make_table(name, sum, identity)}, {result}}});
    return result;
  };
  std::vector<ValueId> outputs;
  const ValueId plain = add_linear({1, 1, 0}, 0), shifted = add_linear({1, 1, 0}, 1),
                negative = add_linear({-1, -1, 0}, 0), other = add_linear({1, 0, 1}, 0),
                none = add_linear({0, 0, 0}, 2);
  for (const ValueId sum_of : {plain, shifted, negative, other, none})
    outputs.push_back(add_lookup(sum_of));
  const auto nothing = static_cast<ValueId>(circuit.values.size());
  circuit.values.push_back({{8}, sum});
  circuit.nodes.push_back(
      {"nothing", Linear{{{plain, ScaleWeight{1}}, {negative, ScaleWeight{1}}}, {}, nothing}});
  outputs.push_back(nothing);
  const ValueId twin = add_lookup(add_linear({1, 1, 0}, 0));
  const auto difference = static_cast<ValueId>(circuit.values.size());
  circuit.values.push_back({{8}, {-18, 18}});
  circuit.nodes.push_back(
      {"difference",
       Linear{{{outputs[0], ScaleWeight{1}}, {twin, ScaleWeight{-1}}}, {}, difference}});
  outputs.push_back(difference);
  for (const ValueId value : outputs)
    circuit.nodes.push_back({"y" + std::to_string(value), Output{value}});
  return circuit;
}

void append(Integers& all, const Integers& more) {
  all.resize(more.size());
  for (std::size_t o = 0; o < more.size(); ++o)
    all[o].data.insert(all[o].data.end(), more[o].data.begin(), more[o].data.end());
}

// Of the errors of outputs: their mean square, and correlation with those of output 0.
struct Errors {
  std::vector<double> squares, correlations;
  double samples = 0;

  Errors(const Integers& results, const Integers& expected)
      : samples(static_cast<double>(expected[0].data.size())) {
    std::vector<double> products;
    for (std::size_t o = 0; o < results.size(); ++o) {
      squares.push_back(0);
      products.push_back(0);
      for (std::size_t i = 0; i < expected[o].data.size(); ++i) {
        const auto error = static_cast<double>(results[o].data[i] - expected[o].data[i]);
        const auto first = static_cast<double>(results[0].data[i] - expected[0].data[i]);
        squares[o] += error * error / samples;
        products[o] += error * first / samples;
      }
      correlations.push_back(squares[o] == 0 ? 0
                                             : products[o] / std::sqrt(squares[o] * squares[0]));
    }
  }
};

// Neurons that share inputs err together. A model that draws noise for each neuron has correlation
// zero everywhere, and noise where sums cancel.
TEST(Flips, NeuronsThatShareInputsErrTogether) {
  const Circuit circuit = shared_sources();
  verify(circuit);
  const Plan plan = make_plan(circuit, {.precision = Precision::tolerant, .tolerance = 0.1},
                              only(noisy_results()));
  const auto value = [](std::int64_t i) { return i % 3 - 1; };
  const Integers few = inputs_of(circuit, 50, value), many = inputs_of(circuit, 5000, value);
  FlipCounts counts;
  Integers results, expected;
  // The noise of a key depends on how many of its 12 bits are one.
  for (std::uint64_t seed = 1; seed <= 6; ++seed) {
    append(results, Encrypted(plan, seed).run(circuit, plan, few, counts));
    append(expected, run_clear(circuit, few));
  }
  const Errors encrypted(results, expected);
  const Errors simulated(run_simulated(circuit, plan, many, 1), run_clear(circuit, many));
  for (std::size_t o = 0; o < encrypted.squares.size(); ++o) {
    SCOPED_TRACE("output " + std::to_string(o));
    RecordProperty("encrypted" + std::to_string(o), std::to_string(encrypted.correlations[o]));
    RecordProperty("simulated" + std::to_string(o), std::to_string(simulated.correlations[o]));
    EXPECT_NEAR(encrypted.squares[o], simulated.squares[o], 0.25 * simulated.squares[o]);
    EXPECT_NEAR(encrypted.correlations[o], simulated.correlations[o],
                5 / std::sqrt(encrypted.samples));
  }
  // The same mask, its negative, a half in common, no noise at all, noise that cancels, twice.
  EXPECT_GT(simulated.squares[0], 0.1);
  EXPECT_GT(simulated.correlations[1], 0.8);
  EXPECT_LT(simulated.correlations[2], -0.85);
  EXPECT_GT(simulated.correlations[3], 0.2);
  EXPECT_LT(simulated.correlations[3], 0.6);
  EXPECT_EQ(simulated.squares[4], 0);
  EXPECT_EQ(simulated.squares[5], 0);
  EXPECT_EQ(simulated.squares[6], 0);
}

}  // namespace
}  // namespace torusml
