#include "tfhe/stages.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "random/test_seed.h"
#include "tfhe/secret_keys.h"

namespace torusml {
namespace {

double torus_distance(Torus a, Torus b) {
  return std::abs(std::ldexp(static_cast<double>(static_cast<std::int64_t>(a - b)), -64));
}

struct Shape {
  std::uint32_t size, k, levels, extension_log2, grouping = 1, accumulator_bits = 64;
};

// Tiny and insecure, almost without noise.
TfheParameters tiny(const Shape& shape) {
  TfheParameters p;
  p.small_dimension = {10};
  p.glwe_dimension = {shape.k};
  p.polynomial_size = {shape.size};
  p.bootstrap = shape.levels == 1 ? Gadget{24, 1} : Gadget{14, 2};
  p.grouping_factor = shape.grouping;
  p.accumulator_bits = shape.accumulator_bits;
  p.keyswitch = {4, 7};
  p.small_variance = {std::pow(2.0, -2 * 30)};
  p.glwe_variance = {std::pow(2.0, -2 * 60)};
  return p;
}

struct Keys {
  SecretKeys secret;
  EvaluationKeys evaluation;

  explicit Keys(const TfheParameters& parameters) : Keys(parameters, TestSeed::make(5)) {}
  const EvaluationKeys::State& state() const { return evaluation.state(); }

 private:
  Keys(const TfheParameters& parameters, SecretGenerator random)
      : secret(SecretKeys::generate(parameters, random)),
        evaluation(EvaluationKeys::prepare(make_evaluation_keys(secret, random))) {}
};

class BlindRotationOfShape : public testing::TestWithParam<Shape> {};

// Every index of the table and of its negated second half, by ciphertexts built after the modulus
// switch: no noise but that of the rotation itself.
TEST_P(BlindRotationOfShape, GivesTheEntryOfEveryIndex) {
  const Shape shape = GetParam();
  const Keys keys(tiny(shape));
  const std::size_t n = keys.state().small();
  const std::size_t period = std::size_t{shape.size} << shape.extension_log2;
  std::mt19937_64 random(11);
  std::vector<Torus> table(period);
  for (auto& word : table) word = random();

  const std::size_t block = 8;
  BlindRotation rotation(keys.state(), shape.extension_log2, block);
  const std::vector<const Torus*> tables(block, table.data());
  LweBatch outputs(keys.secret.parameters.big_dimension(), 2 * period);
  std::vector<std::uint32_t> switched(block * (n + 1));
  for (std::size_t first = 0; first < 2 * period; first += block) {
    for (std::size_t c = 0; c < block; ++c) {
      std::uint32_t* row = switched.data() + c * (n + 1);
      std::size_t body = first + c;
      for (std::size_t i = 0; i < n; ++i) {
        row[i] = static_cast<std::uint32_t>(random() % (2 * period));
        body += row[i] * keys.secret.small()[i];
      }
      row[n] = static_cast<std::uint32_t>(body % (2 * period));
    }
    rotation.run(switched.data(), tables);
    for (std::size_t c = 0; c < block; ++c) rotation.extract(c, outputs.row(first + c));
  }
  const auto phases = decrypt(keys.secret, outputs);
  for (std::size_t i = 0; i < 2 * period; ++i) {
    const Torus expected = i < period ? table[i] : 0 - table[i - period];
    ASSERT_LT(torus_distance(phases[i], expected), 1e-4) << "index " << i;
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, BlindRotationOfShape,
                         testing::Values(Shape{64, 1, 1, 0}, Shape{64, 2, 2, 1}, Shape{64, 3, 1, 2},
                                         Shape{64, 1, 2, 0}, Shape{64, 2, 1, 0, 2},
                                         Shape{64, 3, 2, 0, 1, 32}, Shape{64, 3, 2, 3, 2},
                                         Shape{64, 1, 1, 3, 2, 32}, Shape{128, 1, 1, 1, 2},
                                         Shape{128, 2, 2, 0, 2, 32}, Shape{128, 1, 2, 2, 2},
                                         Shape{64, 1, 1, 6, 2}),
                         [](const auto& info) {
                           const Shape& s = info.param;
                           return fmt::format("N{}k{}l{}h{}g{}w{}", s.size, s.k, s.levels,
                                              s.extension_log2, s.grouping, s.accumulator_bits);
                         });

// Several tables side by side, one of them missing: each result is its own table's entry.
class SharedRotation : public testing::TestWithParam<std::tuple<Shape, std::uint32_t>> {};

TEST_P(SharedRotation, GivesTheEntryOfEveryTable) {
  const auto [shape, tables_log2] = GetParam();
  const Keys keys(tiny(shape));
  const std::size_t n = keys.state().small(), period = shape.size;
  const std::size_t count = std::size_t{1} << tables_log2, entries = period >> tables_log2;
  std::mt19937_64 random(12);
  std::vector<std::vector<Torus>> words(count - 1, std::vector<Torus>(entries));
  std::vector<const Torus*> tables;
  for (auto& table : words) {
    for (auto& word : table) word = random();
    tables.push_back(table.data());
  }
  tables.push_back(nullptr);

  BlindRotation rotation(keys.state(), 0, 1);
  LweBatch outputs(keys.secret.parameters.big_dimension(), count);
  std::vector<std::uint32_t> row(n + 1);
  const std::vector<const std::uint32_t*> rows = {row.data()};
  for (std::size_t index = 0; index < 2 * entries; ++index) {
    std::size_t body = index;
    for (std::size_t i = 0; i < n; ++i) {
      const std::size_t exponent = random() % (2 * entries);
      row[i] = static_cast<std::uint32_t>(exponent << tables_log2);
      body += exponent * keys.secret.small()[i];
    }
    row[n] = static_cast<std::uint32_t>(body % (2 * entries) << tables_log2);
    rotation.run(rows, tables, tables_log2);
    for (std::size_t f = 0; f < count; ++f) rotation.extract(0, outputs.row(f), f);
    const auto phases = decrypt(keys.secret, outputs);
    for (std::size_t f = 0; f < count; ++f) {
      const Torus entry = f + 1 == count ? 0 : words[f][index % entries];
      ASSERT_LT(torus_distance(phases[f], index < entries ? entry : 0 - entry), 1e-4)
          << "table " << f << " index " << index;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, SharedRotation,
                         testing::Combine(testing::Values(Shape{64, 1, 2, 0}, Shape{64, 2, 1, 0, 2},
                                                          Shape{128, 1, 1, 0, 2, 32},
                                                          Shape{64, 3, 2, 0, 1, 32}),
                                          testing::Values(1, 2, 3)),
                         [](const auto& info) {
                           const Shape& s = std::get<0>(info.param);
                           return fmt::format("N{}k{}l{}g{}w{}v{}", s.size, s.k, s.levels,
                                              s.grouping, s.accumulator_bits,
                                              std::get<1>(info.param));
                         });

// Every order of the steps ends at the same phase, and leaves out what cannot reach it.
TEST(BlindRotation, OrderedAndWholeRunsAgree) {
  const Shape shape{64, 1, 1, 3, 2};
  const Keys keys(tiny(shape));
  const std::size_t n = keys.state().small(), period = 64 << 3;
  std::mt19937_64 random(4);
  std::vector<Torus> table(period);
  for (auto& word : table) word = random();
  const std::vector<const Torus*> tables = {table.data()};
  std::vector<std::uint32_t> switched(n + 1);
  for (auto& word : switched) word = static_cast<std::uint32_t>(random() % (2 * period));
  LweBatch results(keys.secret.parameters.big_dimension(), 2);
  BlindRotation rotation(keys.state(), 3, 1);
  rotation.run(switched.data(), tables);
  rotation.extract(0, results.row(0));
  rotation.run(switched.data(), tables, true);
  rotation.extract(0, results.row(1));
  const auto phases = decrypt(keys.secret, results);
  EXPECT_LT(torus_distance(phases[0], phases[1]), 1e-4);
}

TEST(SwitchModulus, RoundsToNearest) {
  EXPECT_EQ(switch_modulus(0, 64), 0u);
  EXPECT_EQ(switch_modulus(std::uint64_t{1} << 58, 64), 1u);
  EXPECT_EQ(switch_modulus((std::uint64_t{1} << 57) - 1, 64), 0u);
  EXPECT_EQ(switch_modulus(std::uint64_t{1} << 57, 64), 1u);
  EXPECT_EQ(switch_modulus(~std::uint64_t{0}, 64), 0u);
  EXPECT_EQ(switch_modulus(~std::uint64_t{0}, 1), 0u);
  EXPECT_EQ(switch_modulus(std::uint64_t{5} << 32, std::uint64_t{1} << 32), 5u);
  EXPECT_EQ(
      switch_modulus((std::uint64_t{5} << 32) + (std::uint64_t{1} << 31), std::uint64_t{1} << 32),
      6u);
}

// Multiples of 2^grain are those of the smaller modulus, moved up.
TEST(SwitchRow, KeepsToItsGrain) {
  const std::size_t n = 40;
  std::mt19937_64 random(6);
  std::vector<std::uint32_t> small(n + 1), fine(n + 1), coarse(n + 1);
  for (auto& word : small) word = static_cast<std::uint32_t>(random());
  switch_row(small.data(), n, 1 << 12, fine.data(), 3);
  switch_row(small.data(), n, 1 << 9, coarse.data());
  for (std::size_t i = 0; i <= n; ++i) EXPECT_EQ(fine[i], coarse[i] << 3) << i;
}

TEST(SwitchRow, CentresTheErrorsOfTheMask) {
  const std::size_t n = 4;
  const std::uint64_t modulus = 1 << 12;  // steps of 2^20 in 32-bit words
  // Errors (rounded minus exact) of +3, -2, +7, 0 units of 2^-12 steps: half their sum is +4.
  const std::uint32_t unit = 1u << 20, step = 1u << 8;
  const std::vector<std::uint32_t> small = {10 * unit - 3 * step, 11 * unit + 2 * step,
                                            12 * unit - 7 * step, 13 * unit, unit / 2 - 4 * step};
  std::vector<std::uint32_t> switched(n + 1);
  switch_row(small.data(), n, modulus, switched.data());
  EXPECT_EQ(switched, (std::vector<std::uint32_t>{10, 11, 12, 13, 1}));
  auto below = small;
  below[n] -= 1;
  switch_row(below.data(), n, modulus, switched.data());
  EXPECT_EQ(switched[n], 0u);
}

TEST(KeyswitchBlock, KeepsThePhase) {
  const Keys keys(tiny({128, 2, 1, 0}));
  const auto& state = keys.state();
  std::mt19937_64 words(3);
  std::vector<Torus> phases(11);
  for (auto& phase : phases) phase = words();
  auto random = TestSeed::make(4);
  const LweBatch inputs = expand(encrypt(keys.secret, phases, random));
  const std::size_t first = 2, count = 9;
  std::vector<std::uint32_t> small(count * state.keyswitch_pitch);
  keyswitch_block(state, inputs, first, count, small.data());
  for (std::size_t c = 0; c < count; ++c) {
    const std::uint32_t* row = small.data() + c * state.keyswitch_pitch;
    std::uint32_t phase = row[state.small()];
    for (std::size_t i = 0; i < state.small(); ++i) {
      phase -= row[i] * static_cast<std::uint32_t>(keys.secret.small()[i]);
    }
    EXPECT_LT(torus_distance(std::uint64_t{phase} << 32, phases[first + c]), 1e-5) << c;
  }
}

}  // namespace
}  // namespace torusml
