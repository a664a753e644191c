// Lookups that fail, counted, against the probability that the formulas give.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <optional>
#include <random>

#include "noise_measure.h"
#include "parameters/noise.h"
#include "parameters/optimizer.h"
#include "parameters/wide_lookups.h"
#include "random/test_seed.h"
#include "tfhe/bootstrap.h"
#include "tfhe/secret_keys.h"
#include "tfhe/wide_lookup.h"

namespace torusml {
namespace {

// Whole lookups at a p_error so large that failures can be counted: the tail of the formula, not
// only its variance. The count lies within 4.9 standard deviations of the binomial (1e-6).
struct ErrorRateCase {
  int bits;
  double p_error;
  std::size_t lookups;
  std::size_t tables = 1;  // of each value; more than one share a rotation
};

class StatisticalErrorRate : public testing::TestWithParam<ErrorRateCase> {};

TEST_P(StatisticalErrorRate, IsThatOfTheTail) {
  const ErrorRateCase c = GetParam();
  const std::uint64_t values = std::uint64_t{1} << c.bits;
  NoiseConstraint constraint;
  constraint.name = "lookup";
  constraint.fresh_norm2 = 1;
  constraint.lookup_count = 1;
  constraint.values = values;
  constraint.tables = c.tables;
  constraint.limit_sigma = 0.25 / static_cast<double>(values) / kappa(c.p_error);
  // The results are read without failures of their own.
  NoiseConstraint output;
  output.name = "output";
  output.is_lookup = false;
  output.bootstrap_norm2 = 1;
  output.limit_sigma = 0.25 / static_cast<double>(values) / kappa(0x1p-40);
  const auto choice = choose_parameters({.constraints = {constraint, output}});
  ASSERT_TRUE(choice);
  const RotationShape rotation = choice->rotation(0);
  ASSERT_EQ(rotation.turns(c.tables), 1u);
  const std::size_t size = rotation.table_size(choice->key_sets[0].parameters.polynomial_size);
  const double half_box = 0.25 / static_cast<double>(values);
  const double predicted = tail_probability(half_box / std::sqrt(choice->noise[0].value));

  const int shift = 64 - c.bits - 1;
  std::vector<Torus> table(size);
  for (std::size_t i = 0; i < size; ++i) table[i] = Torus{i * values / size} << shift;
  const Torus half_index = (Torus{1} << 62) / size;
  std::size_t failures = 0, done = 0;
  for (std::uint64_t seed = 1; done < c.lookups; ++seed) {
    const Keys keys = Keys::make(choice->key_sets[0].parameters, seed);
    auto random = TestSeed::make(seed + 1000);
    std::vector<Torus> phases(std::min<std::size_t>(2048, c.lookups - done));
    for (std::size_t i = 0; i < phases.size(); ++i) {
      // The middle of the box, less half an index: rounding to the nearest index is then a floor.
      phases[i] = (Torus{i % values} << shift) + (Torus{1} << (shift - 1)) - half_index;
    }
    const LweBatch inputs = expand(encrypt(keys.secret, phases, random));
    std::vector<LweBatch> outputs(c.tables, LweBatch(inputs.dimension, inputs.count));
    std::vector<LweBatch*> rooms;
    for (LweBatch& output : outputs) rooms.push_back(&output);
    const std::vector<const Torus*> tables(inputs.count * c.tables, table.data());
    bootstrap_batch(keys.evaluation, inputs, tables, rotation, rooms);
    const auto value_of = [&](Torus result) {
      return ((result + (Torus{1} << (shift - 1))) >> shift) % (2 * values);
    };
    const auto results = decrypt(keys.secret, outputs.front());
    for (std::size_t i = 0; i < results.size(); ++i)
      failures += value_of(results[i]) != i % values ? 1 : 0;
    // All tables of a value are read at one index.
    for (const LweBatch& output : outputs) {
      const auto others = decrypt(keys.secret, output);
      for (std::size_t i = 0; i < results.size(); ++i)
        ASSERT_EQ(value_of(others[i]), value_of(results[i]));
    }
    done += phases.size();
  }
  const double expected = predicted * static_cast<double>(done);
  RecordProperty("failures_over_predicted",
                 fmt::format("{:.3f}", static_cast<double>(failures) / expected));
  EXPECT_NEAR(static_cast<double>(failures), expected, 4.9 * std::sqrt(expected))
      << fmt::format("p_error 2^{:.2f} predicted", std::log2(predicted));
}

INSTANTIATE_TEST_SUITE_P(Cases, StatisticalErrorRate,
                         testing::Values(ErrorRateCase{4, 0x1p-6, 20480},
                                         ErrorRateCase{3, 0x1p-8, 40960},
                                         ErrorRateCase{6, 0x1p-6, 10240},
                                         ErrorRateCase{3, 0x1p-6, 20480, 4}),
                         [](const auto& info) {
                           return fmt::format("Bits{}Tables{}", info.param.bits, info.param.tables);
                         });

// The same for wide lookups, whose prediction is a sum over the events of one: an upper bound, and
// not every event gives a wrong result.
struct WideRateCase {
  std::uint32_t bits;
  double p_error;
  std::size_t lookups;
};

constexpr std::uint32_t kRateResultBits = 8;

std::optional<ParameterChoice> choose_widely(const WideRateCase& c) {
  NoiseConstraint constraint;
  constraint.name = "lookup";
  constraint.fresh_norm2 = 1;
  constraint.lookup_count = 1;
  constraint.values = std::uint64_t{1} << c.bits;
  constraint.limit_sigma = std::exp2(-(c.bits + 2.0)) / kappa(c.p_error);
  constraint.index_bits = c.bits;
  constraint.result_bits = kRateResultBits;
  NoiseConstraint output;
  output.name = "output";
  output.is_lookup = false;
  output.bootstrap_norm2 = 3;  // digits, at most
  output.limit_sigma = std::exp2(-(kRateResultBits + 2.0)) / kappa(0x1p-40);
  return choose_parameters({.constraints = {constraint, output}, .max_extension_log2 = 0});
}

class StatisticalWideErrorRate : public testing::TestWithParam<WideRateCase> {};

TEST_P(StatisticalWideErrorRate, IsBelowTheSumOverEvents) {
  const WideRateCase c = GetParam();
  const std::optional<ParameterChoice> choice = choose_widely(c);
  ASSERT_TRUE(choice);
  ASSERT_TRUE(has_wide_lookup(*choice));
  TfheParameters p = choice->key_sets[0].parameters;
  const WideShape& shape = choice->wide[0];
  const auto failure = [&] { return wide_failure(p, shape, p.glwe_variance.value); };
  // What is chosen may be much better than what was asked for.
  while (failure() < c.p_error) {
    p.small_dimension.value -= p.grouping_factor;
    p.small_variance = minimal_variance(p.small_dimension.value, 128);
  }
  const double predicted = failure();

  const int shift = 63 - static_cast<int>(kRateResultBits);
  std::mt19937_64 random(1);
  std::vector<std::uint64_t> entries(std::size_t{1} << c.bits);
  for (auto& entry : entries) entry = random() >> (64 - kRateResultBits);
  std::vector<std::vector<Torus>> words(shape.digit_count);
  for (std::uint32_t s = 0; s < shape.digit_count; ++s) {
    for (Torus d = 0; d < Torus{1} << shape.digit_bits; ++d)
      words[s].push_back(d << (s * shape.digit_bits) << shift);
  }
  const WideTable table(p.polynomial_size, shape, entries, words);
  std::size_t failures = 0, done = 0;
  for (std::uint64_t seed = 1; done < c.lookups; ++seed) {
    const Keys keys = Keys::make(p, seed);
    auto noise = TestSeed::make(seed + 1000);
    std::vector<std::size_t> indices(std::min<std::size_t>(512, c.lookups - done));
    std::vector<Torus> phases;
    for (auto& index : indices) {
      index = random() % entries.size();
      phases.push_back((Torus{2 * index} + 1) << (62 - c.bits));
    }
    const LweBatch inputs = expand(encrypt(keys.secret, phases, noise));
    LweBatch outputs(inputs.dimension, inputs.count);
    wide_lookup_batch(keys.evaluation, inputs, std::vector<const WideTable*>(inputs.count, &table),
                      outputs);
    const SecretBuffer<Torus> results = decrypt(keys.secret, outputs);
    for (std::size_t i = 0; i < results.size(); ++i) {
      const Torus value = (results[i] + (Torus{1} << (shift - 1))) >> shift;
      failures += value != entries[indices[i]];
    }
    done += indices.size();
  }
  const double expected = predicted * static_cast<double>(done), least = 0.4 * expected;
  RecordProperty("failures_over_predicted",
                 fmt::format("{:.3f}", static_cast<double>(failures) / expected));
  const std::string what =
      fmt::format("{} failures in {}, p_error 2^{:.2f} predicted, n {}", failures, done,
                  std::log2(predicted), p.small_dimension.value);
  RecordProperty("failures", what);
  EXPECT_LT(static_cast<double>(failures), expected + 4.9 * std::sqrt(expected)) << what;
  EXPECT_GT(static_cast<double>(failures), least - 4.9 * std::sqrt(least)) << what;
}

INSTANTIATE_TEST_SUITE_P(Cases, StatisticalWideErrorRate,
                         testing::Values(WideRateCase{10, 0x1p-4, 2048}),
                         [](const auto& info) { return fmt::format("Bits{}", info.param.bits); });

}  // namespace
}  // namespace torusml
