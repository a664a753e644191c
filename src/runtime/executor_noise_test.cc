// Results that noise makes wrong: as often simulated as encrypted, and as predicted.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>

#include "parameters/wire_noise.h"
#include "random/test_seed.h"
#include "runtime/testing/test_keys.h"

namespace torusml {
namespace {

// Results are inputs, so that only what they take on their way makes them wrong: as often simulated
// as encrypted, and as a Gaussian of that variance.
void expect_echo_fails_alike(const Circuit& circuit, const Plan& plan) {
  constexpr std::int64_t kSamples = 4000;
  Integers x{{{kSamples, 1}, {}}};
  for (std::int64_t i = 0; i < kSamples; ++i) x[0].data.push_back(i % 14 - 7);  // no ends
  const auto wrong = [&](const Integers& y) {
    double count = 0;
    for (std::size_t i = 0; i < y[0].data.size(); ++i) count += y[0].data[i] != x[0].data[i];
    return count / kSamples;
  };
  const OutputPlan& output = plan.outputs.at(1);
  const double sigma = std::sqrt(wire_noise(plan.key_sets, output.wire_bits, output.packed).value);
  const double expected = std::erfc(plan.tensors[0].scale / 2 / sigma / std::sqrt(2.0));
  EXPECT_GT(expected, 0.05);
  EXPECT_LT(expected, 0.6);
  EXPECT_NEAR(wrong(run_simulated(circuit, plan, x, 3)), expected, 0.04);
  constexpr std::uint64_t kKeys = 8;  // what packing adds depends on the key
  double encrypted = 0;
  for (std::uint64_t seed = 0; seed < kKeys; ++seed) {
    SecretGenerator random = TestSeed::make(seed);
    const Keys keys = Keys::make({plan.key_sets[0].parameters}, random);
    encrypted += wrong(run_under(keys.secret, keys.evaluation, circuit, plan, x, random)) / kKeys;
  }
  EXPECT_NEAR(encrypted, expected, 0.04);
}

Circuit echo() {
  Circuit circuit;
  circuit.name = "echo";
  circuit.values = {{{1}, {-8, 7}}};
  circuit.nodes = {{"x", Input{0}}, {"y", Output{0}}};
  return circuit;
}

// Results that are rounded to too few bits fail as often simulated as encrypted.
TEST(ExecutorNoise, RoundedResultsFailAlike) {
  const Circuit circuit = echo();
  Plan plan = make_plan(circuit, {}, only(kInsecure));
  int& bits = plan.outputs.at(1).wire_bits;
  while (bits > 1 &&
         std::sqrt(wire_noise(plan.key_sets, bits, false).value) < plan.tensors[0].scale / 3)
    --bits;
  expect_echo_fails_alike(circuit, plan);
}

// The same of a trace that is too coarse for these results.
TEST(ExecutorNoise, PackedResultsFailAlike) {
  const Circuit circuit = echo();
  Plan plan = make_plan(circuit, {}, only(kInsecure));
  plan.key_sets[0].parameters.trace = {.base_log2 = 7, .level_count = 2};
  plan.outputs.at(1).packed = true;
  plan.outputs.at(1).wire_bits = 64;
  expect_echo_fails_alike(circuit, plan);
}

// The interval's ends under tolerant never come back negated from the opposite end.
TEST(ExecutorNoise, TolerantEndsStayNearTheirEnd) {
  SecretGenerator random;
  constexpr std::int64_t kElements = 64;
  const Circuit circuit = identity_table(-157, 150, kElements);
  const Plan plan = make_plan(circuit, {.precision = Precision::tolerant});
  Integers inputs{{{20, kElements}, {}}};
  for (std::int64_t i = 0; i < 20 * kElements; ++i)
    inputs[0].data.push_back(i % 2 == 0 ? -157 : 150);
  const Integers outputs = run_simulated(circuit, plan, inputs, 1);
  for (std::size_t i = 0; i < outputs[0].data.size(); ++i) {
    ASSERT_NEAR(static_cast<double>(outputs[0].data[i]), static_cast<double>(inputs[0].data[i]),
                20);
  }
}

TEST(Long, TolerantEndsStayNearTheirEndEncrypted) {
  SecretGenerator random;
  const Circuit circuit = identity_table(-157, 150, 512);
  const Plan plan = make_plan(circuit, {.precision = Precision::tolerant});
  const Keys keys = Keys::make(parameters_of(plan.key_sets), random);
  Integers inputs{{{1, 512}, {}}};
  for (std::int64_t i = 0; i < 512; ++i) inputs[0].data.push_back(i % 2 == 0 ? -157 : 150);
  const Integers outputs = run_under(keys.secret, keys.evaluation, circuit, plan, inputs, random);
  for (std::size_t i = 0; i < 512; ++i) {
    ASSERT_NEAR(static_cast<double>(outputs[0].data[i]), static_cast<double>(inputs[0].data[i]),
                20);
  }
}

// Histogram of result - value over an identity table, clipped to [-6, 6].
std::vector<double> error_histogram(const Integers& results, const Integers& inputs) {
  std::vector<double> counts(13, 0);
  for (std::size_t i = 0; i < inputs[0].data.size(); ++i) {
    const std::int64_t error =
        std::clamp<std::int64_t>(results[0].data[i] - inputs[0].data[i], -6, 6);
    counts[static_cast<std::size_t>(error + 6)] += 1;
  }
  return counts;
}

// Two-sample chi-square over the cells with at least 10 counts; returns statistic minus its 1 -
// 1e-6 bound.
double chi_square_excess(const std::vector<double>& a, const std::vector<double>& b) {
  const double total_a = std::accumulate(a.begin(), a.end(), 0.0),
               total_b = std::accumulate(b.begin(), b.end(), 0.0);
  double statistic = 0, cells = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (a[i] + b[i] < 10) continue;
    const double pooled = (a[i] + b[i]) / (total_a + total_b);
    statistic += std::pow(a[i] - total_a * pooled, 2) / (total_a * pooled) +
                 std::pow(b[i] - total_b * pooled, 2) / (total_b * pooled);
    cells += 1;
  }
  const double freedom = cells - 1;
  // Wilson-Hilferty, 4.753 standard deviations: false alarms at 1e-6.
  const double spread = 2.0 / (9.0 * freedom);
  return statistic - freedom * std::pow(1 - spread + 4.753 * std::sqrt(spread), 3);
}

// Results that differ, by table, and values of which some results differ and others do not.
struct Failures {
  std::vector<double> by_output;
  double values = 0, partial = 0;

  Failures(const Integers& results, const Integers& expected) : by_output(results.size(), 0) {
    for (std::size_t i = 0; i < expected[0].data.size(); ++i) {
      std::size_t wrong = 0;
      for (std::size_t o = 0; o < results.size(); ++o) {
        const bool differs = results[o].data[i] != expected[o].data[i];
        by_output[o] += differs ? 1 : 0;
        wrong += differs ? 1 : 0;
      }
      values += wrong != 0 ? 1 : 0;
      partial += wrong != 0 && wrong != results.size() ? 1 : 0;
    }
  }
};

// Wrong results of a circuit at a p_error that can be counted, encrypted and, of ten times as many
// samples, simulated; and the number that the plan predicts.
void expect_failures_as_simulated(const Circuit& circuit, const Plan& plan, const Integers& inputs,
                                  double predicted) {
  SecretGenerator random;
  const Keys keys = Keys::make(parameters_of(plan.key_sets), random);
  const Failures encrypted(run_under(keys.secret, keys.evaluation, circuit, plan, inputs, random),
                           run_clear(circuit, inputs));
  double simulated = 0;
  for (std::uint64_t seed = 0; seed < 10; ++seed) {
    const Failures failures(run_simulated(circuit, plan, inputs, seed), run_clear(circuit, inputs));
    EXPECT_EQ(failures.partial, 0);
    simulated += failures.values / 10;
  }
  testing::Test::RecordProperty("encrypted_over_predicted",
                                std::to_string(encrypted.values / predicted));
  testing::Test::RecordProperty("simulated_over_predicted", std::to_string(simulated / predicted));
  EXPECT_EQ(encrypted.partial, 0);  // all tables of a value are read at one index
  EXPECT_NEAR(encrypted.values, predicted, 5 * std::sqrt(predicted));
  EXPECT_NEAR(simulated, predicted, 5 * std::sqrt(predicted / 10));
}

TEST(Statistical, TablesOfOneValueFailTogether) {
  constexpr std::int64_t kElements = 512, kBatch = 8;
  Circuit circuit = identity_table(0, 7, kElements);
  for (const std::int64_t factor : {3, 5, 7}) {
    Table table{"times" + std::to_string(factor), {0, 7}, 1, {}, {}};
    for (std::int64_t v = 0; v < 8; ++v) table.entries.push_back(factor * v % 8);
    const auto result = static_cast<ValueId>(circuit.values.size());
    circuit.values.push_back(circuit.values[1]);
    auto& lut = std::get<Lut>(circuit.nodes[1].op);
    lut.tables.push_back(std::move(table));
    lut.results.push_back(result);
    circuit.nodes.push_back({"y" + std::to_string(factor), Output{result}});
  }
  const Plan plan = make_plan(circuit, {.p_error = 0x1p-5, .key_set_source = KeySetSource::custom});
  const LookupPlan& lookup = plan.lookups.at(1);
  EXPECT_GT(lookup.rotation.tables_log2, 0u);
  Integers inputs{{{kBatch, kElements}, {}}};
  for (std::int64_t i = 0; i < kBatch * kElements; ++i)
    inputs[0].data.push_back(1 + i % 6);  // a neighbour on either side
  expect_failures_as_simulated(circuit, plan, inputs, kBatch * kElements * lookup.step_probability);
}

// Values beside the step, and beside the border opposite of it.
TEST(Statistical, SignsFailAsOftenAsPredicted) {
  constexpr std::int64_t kElements = 512, kBatch = 16;
  Circuit circuit = identity_table(-8, 7, kElements);
  Table& table = std::get<Lut>(circuit.nodes[1].op).tables[0];
  for (std::size_t i = 0; i < 16; ++i) table.entries[i] = i < 8 ? 0 : 1;
  circuit.values[1].interval = {0, 1};
  const Plan plan = make_plan(circuit, {.p_error = 0x1p-5, .key_set_source = KeySetSource::custom});
  const LookupPlan& lookup = plan.lookups.at(1);
  EXPECT_TRUE(lookup.is_odd);
  Integers inputs{{{kBatch, kElements}, {}}};
  const std::int64_t ends[] = {-8, -1, 0, 7};
  for (std::int64_t i = 0; i < kBatch * kElements; ++i) inputs[0].data.push_back(ends[i % 4]);
  // Each leaves its box to one side; the output may err, too, which two errors undo.
  const double sign = lookup.step_probability / 2, output = plan.outputs.at(2).flip_probability;
  expect_failures_as_simulated(circuit, plan, inputs,
                               kBatch * kElements * (sign + output - 2 * sign * output));
}

TEST(Statistical, TolerantErrorsAreDistributedAsSimulated) {
  constexpr std::int64_t kElements = 512, kBatch = 40;  // 20,480 lookups
  SecretGenerator random;
  const Circuit circuit = identity_table(-157, 150, kElements);
  const Plan plan = make_plan(circuit, {.precision = Precision::tolerant});
  std::mt19937_64 draws(7);
  Integers inputs{{{kBatch, kElements}, {}}};
  for (std::int64_t i = 0; i < kBatch * kElements; ++i) {
    inputs[0].data.push_back(std::uniform_int_distribution<std::int64_t>(-140, 133)(draws));
  }
  const Keys keys = Keys::make(parameters_of(plan.key_sets), random);
  const std::vector<double> encrypted = error_histogram(
      run_under(keys.secret, keys.evaluation, circuit, plan, inputs, random), inputs);
  Integers many = inputs;  // the simulator is cheap: more samples, less noise of its own
  for (int copy = 0; copy < 9; ++copy)
    many[0].data.insert(many[0].data.end(), inputs[0].data.begin(), inputs[0].data.end());
  many[0].shape[0] = 10 * kBatch;
  EXPECT_LT(
      chi_square_excess(encrypted, error_histogram(run_simulated(circuit, plan, many, 1), many)),
      0);

  // The test has the power that it claims: a simulator whose variance is 15 % off is refused.
  Plan wrong = plan;
  const double mask =
      modulus_switch_mask_variance(plan.key_sets[0].parameters.small_dimension,
                                   2 * plan.key_sets[0].parameters.polynomial_size.value)
          .value;
  KeySet& set = wrong.key_sets[0];
  set.keyswitch.value = 1.15 * (set.keyswitch.value + mask) - mask;
  set.bootstrap.value *= 1.15;
  EXPECT_GT(
      chi_square_excess(encrypted, error_histogram(run_simulated(circuit, wrong, many, 1), many)),
      0);
}

}  // namespace
}  // namespace torusml
