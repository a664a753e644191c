// Measured noise against the formulas that choose parameters: within 5 % in the suites named
// Statistical (transforms and traces alone 15 %), within 10 % in their parts for the default run.
//
// Sample sizes make a false alarm rarer than 1e-6 although errors are not independent: the errors
// of the masks meet the mean 1/2 of the key, so that a third of the variance of an accumulator
// moves in two or three directions only, and the ratio of R rotations is off by 0.3 / sqrt(R).
// Hence a thousand rotations, where ten would give enough coefficients.
#include "parameters/noise.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <random>

#include "parameters/optimizer.h"
#include "parameters/wide_lookups.h"
#include "random/test_seed.h"
#include "tfhe/bootstrap.h"
#include "tfhe/circuit_bootstrap.h"
#include "tfhe/secret_keys.h"
#include "tfhe/stages.h"
#include "tfhe/wide_lookup.h"

namespace torusml {
namespace {

constexpr double kTolerance = 0.05, kQuickTolerance = 0.1;

double centred(Torus word) {
  return std::ldexp(static_cast<double>(static_cast<std::int64_t>(word)), -64);
}

class Errors {
 public:
  void add(double error) {
    sum_ += error;
    square_ += error * error;
    ++count_;
  }
  std::size_t count() const { return count_; }
  double mean() const { return sum_ / static_cast<double>(count_); }
  double variance() const { return square_ / static_cast<double>(count_); }

 private:
  double sum_ = 0, square_ = 0;
  std::size_t count_ = 0;
};

void expect_variance(const Errors& errors, Variance formula, double tolerance = kTolerance) {
  EXPECT_GE(errors.count(), 4800u);
  testing::Test::RecordProperty("measured_over_formula",
                                fmt::format("{:.3f}", errors.variance() / formula.value));
  EXPECT_NEAR(errors.variance() / formula.value, 1, tolerance) << fmt::format(
      "measured sigma 2^{:.3f}, formula 2^{:.3f}, {} errors", std::log2(errors.variance()) / 2,
      std::log2(formula.value) / 2, errors.count());
}

struct Keys {
  SecretKeys secret;
  EvaluationKeys evaluation;

  static Keys make(const TfheParameters& parameters, std::uint64_t seed) {
    auto random = TestSeed::make(seed);
    SecretKeys secret = SecretKeys::generate(parameters, random);
    auto evaluation = EvaluationKeys::prepare(make_evaluation_keys(secret, random));
    return {std::move(secret), std::move(evaluation)};
  }
};

struct RotationCase {
  std::uint32_t n, k, size;
  Gadget gadget;
  std::uint32_t grouping_factor, accumulator_bits, extension_log2;
  std::size_t keys, rotations_per_key;
};

TfheParameters parameters_of(const RotationCase& c) {
  TfheParameters p;
  p.small_dimension = {c.n};
  p.glwe_dimension = {c.k};
  p.polynomial_size = {c.size};
  p.bootstrap = c.gadget;
  p.keyswitch = {2, 1};  // not used
  p.grouping_factor = c.grouping_factor;
  p.accumulator_bits = c.accumulator_bits;
  p.small_variance = {0x1p-50};
  p.glwe_variance = minimal_variance(c.k * c.size, 128);
  return p;
}

// Takes a polynomial of a mask times that of the big key from a phase.
void subtract_mask(const Keys& keys, std::size_t r, std::span<const Torus> mask,
                   std::vector<Torus>& phase) {
  const std::size_t size = mask.size();
  for (std::size_t j = 0; j < size; ++j) {
    if (keys.secret.big[r * size + j] == 0) continue;
    for (std::size_t i = 0; i + j < size; ++i) phase[i + j] -= mask[i];
    for (std::size_t i = size - j; i < size; ++i) phase[i + j - size] += mask[i];
  }
}

// Phase of polynomial p of an accumulator, less what the noiseless rotation would hold.
void add_errors(const Keys& keys, const BlindRotation& rotation, std::size_t c, std::size_t shard,
                const std::vector<Torus>& exact, Errors& errors) {
  const std::size_t size = keys.secret.parameters.polynomial_size.value;
  const std::size_t k = keys.secret.parameters.glwe_dimension.value;
  const auto body = rotation.accumulator(c, shard, k);
  std::vector<Torus> phase(body.begin(), body.end());
  for (std::size_t r = 0; r < k; ++r) {
    subtract_mask(keys, r, rotation.accumulator(c, shard, r), phase);
  }
  const std::size_t shards = exact.size() / size;
  for (std::size_t j = 0; j < size; ++j) errors.add(centred(phase[j] - exact[j * shards + shard]));
}

// X^-index * table.
std::vector<Torus> rotated(const std::vector<Torus>& table, std::size_t index) {
  const std::size_t period = table.size();
  std::vector<Torus> result(period);
  for (std::size_t j = 0; j < period; ++j) {
    const std::size_t from = (j + index) % (2 * period);
    result[j] = from < period ? table[from] : 0 - table[from - period];
  }
  return result;
}

// The formula with the weights of this key instead of those of a mean one. The first step's operand
// has no mask, so that its rounding does not matter.
double variance_of(const Keys& keys) {
  const TfheParameters& p = keys.secret.parameters;
  const RotationStepNoise step = rotation_step_noise(p);
  const std::size_t g = p.grouping_factor, steps = p.small_dimension.value / g;
  const auto bits = keys.secret.small();
  double not_zero = 0;
  for (std::size_t i = g; i < g * steps; i += g)
    not_zero += std::any_of(&bits[i], &bits[i] + g, [](auto bit) { return bit != 0; }) ? 1 : 0;
  double weight = 0;
  for (std::size_t j = 0; j < p.big_dimension().value; ++j)
    weight += keys.secret.big[j] != 0 ? 1 : 0;
  const double masks = (1 + weight) / (1 + p.big_dimension().value / 2.0);
  const double chosen = not_zero / (1 - std::exp2(-static_cast<double>(g)));
  const auto count = static_cast<double>(steps);
  return count * step.key.value +
         masks * (chosen * step.rounding.value + count * (step.fft.value + step.words.value));
}

// Returns the variance that the formula gives for this key.
double measure_rotations(const RotationCase& c, std::uint64_t seed, Errors& errors) {
  const Keys keys = Keys::make(parameters_of(c), seed);
  const std::size_t period = std::size_t{c.size} << c.extension_log2;
  std::mt19937_64 random(seed);
  std::vector<Torus> table(period);
  for (auto& word : table) word = random();
  BlindRotation rotation(keys.evaluation.state(), c.extension_log2, 1);
  const std::vector<const Torus*> tables = {table.data()};
  std::vector<std::uint32_t> switched(c.n + 1);
  for (std::size_t turn = 0; turn < c.rotations_per_key; ++turn) {
    for (auto& word : switched) word = static_cast<std::uint32_t>(random() % (2 * period));
    std::size_t index = switched[c.n];
    for (std::size_t i = 0; i < c.n; ++i) {
      index += (2 * period - switched[i]) * keys.secret.small()[i];
    }
    rotation.run(switched.data(), tables, true);
    const auto exact = rotated(table, index % (2 * period));
    for (std::size_t shard = 0; shard < period / c.size; ++shard) {
      add_errors(keys, rotation, 0, shard, exact, errors);
    }
  }
  return variance_of(keys);
}

class StatisticalBlindRotation : public testing::TestWithParam<RotationCase> {};

TEST_P(StatisticalBlindRotation, HasTheVarianceOfTheFormula) {
  const RotationCase c = GetParam();
  Errors errors;
  double variance = 0;
  for (std::uint64_t seed = 1; seed <= c.keys; ++seed)
    variance += measure_rotations(c, seed, errors) / static_cast<double>(c.keys);
  expect_variance(errors, {variance});
}

INSTANTIATE_TEST_SUITE_P(Cases, StatisticalBlindRotation,
                         testing::Values(RotationCase{708, 3, 512, {18, 1}, 2, 32, 0, 10, 100},
                                         RotationCase{709, 3, 512, {18, 1}, 1, 64, 0, 10, 100},
                                         RotationCase{500, 2, 1024, {23, 1}, 2, 32, 0, 10, 100},
                                         RotationCase{500, 1, 2048, {22, 1}, 1, 64, 0, 10, 100},
                                         RotationCase{500, 1, 2048, {23, 1}, 2, 64, 0, 10, 100},
                                         RotationCase{500, 1, 2048, {23, 1}, 2, 32, 0, 10, 100},
                                         RotationCase{200, 1, 2048, {15, 2}, 1, 64, 0, 10, 100},
                                         RotationCase{200, 1, 2048, {15, 2}, 2, 32, 0, 10, 100},
                                         RotationCase{200, 1, 2048, {22, 1}, 2, 64, 1, 10, 100},
                                         RotationCase{120, 1, 4096, {22, 1}, 1, 32, 0, 10, 100},
                                         RotationCase{60, 1, 8192, {15, 2}, 1, 64, 0, 10, 100}),
                         [](const auto& info) {
                           const RotationCase& c = info.param;
                           return fmt::format("k{}N{}l{}b{}g{}w{}h{}", c.k, c.size,
                                              c.gadget.level_count, c.gadget.base_log2,
                                              c.grouping_factor, c.accumulator_bits,
                                              c.extension_log2);
                         });

// Errors of results that one rotation reads side by side. As all blocks of 2^v coefficients are
// alike, whole polynomials are looked at.
struct SharedErrors {
  Errors each;
  double product = 0;  // of neighbours in a block
  std::size_t pairs = 0;

  double covariance() const { return product / static_cast<double>(pairs); }
};

void add_shared_errors(const std::vector<Torus>& phase, const std::vector<Torus>& exact,
                       std::size_t tables, SharedErrors& errors) {
  for (std::size_t j = 0; j < phase.size(); ++j) {
    const double error = centred(phase[j] - exact[j]);
    errors.each.add(error);
    if (j % tables == 0) continue;
    errors.product += error * centred(phase[j - 1] - exact[j - 1]);
    ++errors.pairs;
  }
}

// Returns the variance that the formula gives for this key.
double measure_shared_rotations(const RotationCase& c, std::uint32_t tables_log2,
                                std::uint64_t seed, SharedErrors& errors) {
  const Keys keys = Keys::make(parameters_of(c), seed);
  const std::size_t count = std::size_t{1} << tables_log2, entries = c.size >> tables_log2;
  std::mt19937_64 random(seed);
  std::vector<Torus> side_by_side(c.size);
  std::vector<std::vector<Torus>> words(count, std::vector<Torus>(entries));
  std::vector<const Torus*> tables;
  for (std::size_t f = 0; f < count; ++f) {
    for (std::size_t u = 0; u < entries; ++u) side_by_side[u * count + f] = words[f][u] = random();
    tables.push_back(words[f].data());
  }
  BlindRotation rotation(keys.evaluation.state(), 0, 1);
  std::vector<std::uint32_t> row(c.n + 1);
  const std::vector<const std::uint32_t*> rows = {row.data()};
  for (std::size_t turn = 0; turn < c.rotations_per_key; ++turn) {
    for (auto& word : row) word = static_cast<std::uint32_t>(random() % (2 * entries) * count);
    std::size_t index = row[c.n];
    for (std::size_t i = 0; i < c.n; ++i)
      index += (2 * std::size_t{c.size} - row[i]) * keys.secret.small()[i];
    rotation.run(rows, tables, tables_log2);
    std::vector<Torus> phase = rotation.accumulator(0, 0, c.k);
    for (std::size_t r = 0; r < c.k; ++r)
      subtract_mask(keys, r, rotation.accumulator(0, 0, r), phase);
    add_shared_errors(phase, rotated(side_by_side, index % (2 * c.size)), count, errors);
  }
  return variance_of(keys);
}

class StatisticalSharedRotation
    : public testing::TestWithParam<std::tuple<RotationCase, std::uint32_t>> {};

TEST_P(StatisticalSharedRotation, HasVarianceAndCovarianceOfTheFormulas) {
  const auto& [c, tables_log2] = GetParam();
  SharedErrors errors;
  double of_keys = 0;
  for (std::uint64_t seed = 1; seed <= c.keys; ++seed)
    of_keys += measure_shared_rotations(c, tables_log2, seed, errors) / static_cast<double>(c.keys);
  const Variance variance = blind_rotation_variance(parameters_of(c));
  const Variance covariance = shared_rotation_covariance(parameters_of(c));
  expect_variance(errors.each, {of_keys});
  RecordProperty("covariance_over_formula",
                 fmt::format("{:.3f}", errors.covariance() / covariance.value));
  RecordProperty("correlation",
                 fmt::format("{:.3f}", errors.covariance() / errors.each.variance()));
  EXPECT_NEAR(errors.covariance() / errors.each.variance(), covariance.value / variance.value,
              0.05);
}

INSTANTIATE_TEST_SUITE_P(
    Cases, StatisticalSharedRotation,
    testing::Combine(testing::Values(RotationCase{200, 1, 2048, {23, 1}, 2, 32, 0, 10, 100},
                                     RotationCase{200, 1, 2048, {15, 2}, 2, 64, 0, 10, 100},
                                     RotationCase{200, 2, 1024, {23, 1}, 1, 64, 0, 10, 100}),
                     testing::Values(1, 3)),
    [](const auto& info) {
      const RotationCase& c = std::get<0>(info.param);
      return fmt::format("k{}N{}l{}g{}w{}v{}", c.k, c.size, c.gadget.level_count, c.grouping_factor,
                         c.accumulator_bits, std::get<1>(info.param));
    });

// A part for the default run.
class BlindRotationNoise : public StatisticalBlindRotation {};

TEST_P(BlindRotationNoise, HasTheVarianceOfTheFormula) {
  const RotationCase c = GetParam();
  Errors errors;
  for (std::uint64_t seed = 1; seed <= c.keys; ++seed) measure_rotations(c, seed, errors);
  expect_variance(errors, blind_rotation_variance(parameters_of(c)), kQuickTolerance);
}

INSTANTIATE_TEST_SUITE_P(Quick, BlindRotationNoise,
                         testing::Values(RotationCase{200, 3, 512, {18, 1}, 2, 32, 0, 10, 6}),
                         [](const auto&) { return "k3N512g2"; });

// The error of the transforms alone: one step whose keys are uniform polynomials without errors,
// against exact integers. The accumulator's phase meets 1 + k N / 2 such polynomials.
class TransformError {
 public:
  TransformError(std::uint32_t size, std::uint32_t k, const Gadget& gadget, std::uint32_t grouping)
      : size_(size), gadget_(gadget), plan_(fft_plan({size})) {
    shape_ = {.keys = (1u << grouping) - 1,
              .rows = (k + 1) * gadget.level_count,
              .columns = 1,
              .row_pitch = size};
    parameters_.glwe_dimension = {k};
    parameters_.polynomial_size = {size};
    parameters_.bootstrap = gadget;
    parameters_.grouping_factor = grouping;
    parameters_.small_dimension = {grouping};
  }

  Variance formula() const {
    const double kN = parameters_.big_dimension().value;
    return {rotation_step_noise(parameters_).fft.value / (1 + kN / 2)};
  }

  void measure(std::mt19937_64& random, Errors& errors) {
    make_keys(random);
    const std::size_t polynomials = shape_.rows / gadget_.level_count;
    AlignedBuffer<double> rows(shape_.rows * size_), scratch(shape_.scratch_doubles(size_ / 2));
    const int kept = static_cast<int>(gadget_.base_log2 * gadget_.level_count);
    for (std::size_t p = 0; p < polynomials; ++p) {
      std::vector<std::uint64_t> words(size_);
      // Multiples of the gadget's last step, so that rounding plays no part.
      for (auto& word : words) word = random() >> (64 - kept) << (64 - kept);
      current_kernels().split_digits(plan_, gadget_, 64, words.data(), rows.data() + p * size_,
                                     polynomials * size_);
      words_.push_back(words);
    }
    StepItem item{rows.data(), {}};
    for (auto& e : item.exponents) e = static_cast<std::uint32_t>(random() % (2 * size_));
    current_kernels().multiply_step(plan_, shape_, matrix_.data(), std::span(&item, 1),
                                    scratch.data());
    std::vector<std::uint64_t> result(size_);
    current_kernels().join_add(plan_, 64, rows.data(), result.data());
    for (std::size_t t = random() % 16; t < size_; t += 16) {
      errors.add(centred(result[t] - exact(item, t)));
    }
    words_.clear();
  }

 private:
  void make_keys(std::mt19937_64& random) {
    const std::size_t cells = shape_.keys * shape_.rows;
    matrix_ = AlignedBuffer<double>(shape_.matrix_doubles(size_ / 2));
    keys_.assign(cells, std::vector<Torus>(size_));
    AlignedBuffer<double> values(size_), work(size_), transformed(size_);
    for (std::size_t cell = 0; cell < cells; ++cell) {
      for (std::size_t j = 0; j < size_; ++j) {
        keys_[cell][j] = random();
        values[j] =
            std::ldexp(static_cast<double>(static_cast<std::int64_t>(keys_[cell][j])), -64) /
            static_cast<double>(plan_.points);
      }
      current_kernels().forward(plan_, values.data(), work.data(), transformed.data());
      constexpr std::size_t kCell = 2 * kGroupPoints;
      for (std::size_t group = 0; group < size_ / kCell; ++group) {
        std::copy_n(transformed.data() + group * kCell, kCell,
                    matrix_.data() + (group * cells + cell) * kCell);
      }
    }
  }

  // Digit of a word, as split_digits cuts it: odd coefficients are negated before and after.
  std::int64_t digit(Torus word, std::size_t coefficient, std::uint32_t level) const {
    const int base = static_cast<int>(gadget_.base_log2);
    const bool odd = coefficient % 2 == 1;
    Torus offset = Torus{1} << (63 - base * static_cast<int>(gadget_.level_count));
    for (std::uint32_t l = 0; l < gadget_.level_count; ++l) {
      offset += Torus{1} << (63 - base * static_cast<int>(l));
    }
    const Torus field =
        ((odd ? 0 - word : word) + offset) << (base * static_cast<int>(level)) >> (64 - base);
    const std::int64_t value = static_cast<std::int64_t>(field) - (std::int64_t{1} << (base - 1));
    return odd ? -value : value;
  }

  // Coefficient t of the sum over keys and rows of (X^e - 1) * digits * key.
  Torus exact(const StepItem& item, std::size_t t) const {
    Torus sum = 0;
    const std::size_t polynomials = words_.size();
    for (std::size_t row = 0; row < shape_.rows; ++row) {
      const auto level = static_cast<std::uint32_t>(row / polynomials);
      for (std::size_t i = 0; i < size_; ++i) {
        const auto value = static_cast<Torus>(digit(words_[row % polynomials][i], i, level));
        for (std::size_t key = 0; key < shape_.keys; ++key) {
          const auto& polynomial = keys_[key * shape_.rows + row];
          sum += value * (at(polynomial, t, i + item.exponents[key]) - at(polynomial, t, i));
        }
      }
    }
    return sum;
  }

  // Coefficient t of X^shift * polynomial.
  Torus at(const std::vector<Torus>& polynomial, std::size_t t, std::size_t shift) const {
    const std::size_t from = (t + 4 * size_ - shift % (2 * size_)) % (2 * size_);
    return from < size_ ? polynomial[from] : 0 - polynomial[from - size_];
  }

  std::size_t size_;
  Gadget gadget_;
  const FftPlan& plan_;
  TfheParameters parameters_;
  StepShape shape_;
  std::vector<std::vector<Torus>> keys_, words_;
  AlignedBuffer<double> matrix_;
};

TEST(StatisticalTransform, ErrorFollowsItsFit) {
  std::mt19937_64 random(1);
  for (const auto& [size, k, gadget, grouping] : {std::tuple{512u, 1u, Gadget{18, 1}, 1u},
                                                  {512u, 3u, Gadget{18, 1}, 2u},
                                                  {1024u, 2u, Gadget{23, 1}, 2u},
                                                  {2048u, 1u, Gadget{23, 1}, 1u},
                                                  {2048u, 1u, Gadget{23, 1}, 2u},
                                                  {2048u, 1u, Gadget{15, 2}, 2u},
                                                  {2048u, 1u, Gadget{11, 3}, 1u},
                                                  {4096u, 1u, Gadget{22, 1}, 1u},
                                                  {8192u, 1u, Gadget{15, 2}, 1u}}) {
    Errors errors;
    TransformError transform(size, k, gadget, grouping);
    while (errors.count() < 4800) transform.measure(random, errors);
    const double ratio = errors.variance() / transform.formula().value;
    // 15 %: a part of the noise only. Without fused multiply-adds (portable code only) errors are
    // some 15 % larger still.
    EXPECT_NEAR(ratio, 1, 0.15) << fmt::format("N {} k {} l {} b {} g {}", size, k,
                                               gadget.level_count, gadget.base_log2, grouping);
    RecordProperty(fmt::format("N{}k{}l{}g{}", size, k, gadget.level_count, grouping),
                   fmt::format("{:.3f}", ratio));
  }
}

TEST(StatisticalKeyswitch, HasTheVarianceOfTheFormula) {
  for (const Gadget gadget : {Gadget{3, 5}, Gadget{2, 6}, Gadget{4, 2}}) {
    TfheParameters p;
    p.small_dimension = {500};
    p.glwe_dimension = {1};
    p.polynomial_size = {1024};
    p.bootstrap = {20, 1};
    p.keyswitch = gadget;
    p.small_variance = minimal_variance(500, 128);
    if (gadget.level_count == 2) p.small_variance = {0x1p-40};  // rounding alone
    p.glwe_variance = {std::exp2(-100)};
    Errors errors;
    for (std::uint64_t seed = 1; seed <= 40; ++seed) {
      const Keys keys = Keys::make(p, seed);
      const auto& state = keys.evaluation.state();
      auto random = TestSeed::make(1000 + seed);
      std::vector<Torus> phases(320);
      random.fill(phases);
      const LweBatch inputs = expand(encrypt(keys.secret, phases, random));
      std::vector<std::uint32_t> small(phases.size() * state.keyswitch_pitch);
      keyswitch_block(state, inputs, 0, phases.size(), small.data());
      for (std::size_t c = 0; c < phases.size(); ++c) {
        const std::uint32_t* row = small.data() + c * state.keyswitch_pitch;
        std::uint32_t phase = row[state.small()];
        for (std::size_t i = 0; i < state.small(); ++i) {
          phase -= row[i] * static_cast<std::uint32_t>(keys.secret.small()[i]);
        }
        errors.add(centred((std::uint64_t{phase} << 32) - phases[c]));
      }
    }
    expect_variance(errors, keyswitch_variance(p));
  }
}

TEST(ModulusSwitchNoise, HasTheVarianceOfTheFormula) {
  for (const auto& [n, modulus] : {std::pair{830u, 4096u}, {500u, 512u}, {904u, 65536u}}) {
    Errors errors;
    const int shift = 64 - std::countr_zero(modulus);
    std::mt19937_64 random(1);
    std::vector<std::uint32_t> row(n + 1), switched(n + 1);
    for (int sample = 0; sample < 20'000; ++sample) {
      for (auto& word : row) word = static_cast<std::uint32_t>(random());
      switch_row(row.data(), n, modulus, switched.data());
      Torus error = (std::uint64_t{switched[n]} << shift) - (std::uint64_t{row[n]} << 32);
      for (std::size_t i = 0; i < n; ++i) {
        const Torus bit = random() & 1;
        error -= bit * ((std::uint64_t{switched[i]} << shift) - (std::uint64_t{row[i]} << 32));
      }
      errors.add(centred(error));
    }
    expect_variance(errors, modulus_switch_variance({n}, modulus));
    EXPECT_NEAR(errors.mean() / std::sqrt(errors.variance() / 20'000), 0, 5);
  }
}

// Circuit bootstrapping at parameters on the security line.
struct WideCase {
  std::uint32_t n;
  Gadget circuit_bootstrap, trace;
  std::uint32_t index_bits;
  std::size_t keys, turns_per_key;
};

TfheParameters parameters_of(const WideCase& c) {
  TfheParameters p;
  p.small_dimension = {c.n};
  p.glwe_dimension = {1};
  p.polynomial_size = {2048};
  p.bootstrap = {15, 2};
  p.keyswitch = {2, 6};
  p.grouping_factor = 2;
  p.circuit_bootstrap = c.circuit_bootstrap;
  p.trace = c.trace;
  p.small_variance = minimal_variance(std::max(c.n, kLeastSecureDimension), 128);
  p.glwe_variance = minimal_variance(2048, 128);
  return p;
}

std::string name_of(const WideCase& c) {
  return fmt::format("n{}b{}l{}Trace{}x{}Bits{}", c.n, c.circuit_bootstrap.base_log2,
                     c.circuit_bootstrap.level_count, c.trace.level_count, c.trace.base_log2,
                     c.index_bits);
}

class Glwe {
 public:
  explicit Glwe(std::size_t size) : words_(2 * size), size_(size) {}
  Torus* data() { return words_.data(); }
  std::span<Torus> mask() { return std::span(words_).first(size_); }
  std::span<Torus> body() { return std::span(words_).last(size_); }
  std::vector<Torus> phase(const Keys& keys) {
    std::vector<Torus> result(body().begin(), body().end());
    subtract_mask(keys, 0, mask(), result);
    return result;
  }

 private:
  std::vector<Torus> words_;
  std::size_t size_;
};

// The trace of random ciphertexts: errors at coefficient 0, and the squared norm of all errors in
// units of it.
struct TraceErrors {
  Errors front, norms;
};

void measure_trace(const WideCase& c, std::uint64_t seed, TraceErrors& errors) {
  const Keys keys = Keys::make(parameters_of(c), seed);
  const std::size_t size = 2048;
  CircuitBootstrap bootstrap(keys.evaluation.state(), 1);
  std::mt19937_64 random(seed);
  Glwe glwe(size);
  for (std::size_t turn = 0; turn < c.turns_per_key; ++turn) {
    for (auto& word : glwe.mask()) word = random();
    for (auto& word : glwe.body()) word = random();
    const Torus exact = size * glwe.phase(keys)[0];
    bootstrap.trace(glwe.data(), 1);
    std::vector<Torus> phase = glwe.phase(keys);
    phase[0] -= exact;
    errors.front.add(centred(phase[0]));
    double norm2 = 0;
    for (const Torus word : phase) norm2 += centred(word) * centred(word);
    errors.norms.add(std::sqrt(norm2));
  }
}

void expect_trace_variance(const WideCase& c) {
  TraceErrors errors;
  for (std::uint64_t seed = 1; seed <= c.keys; ++seed) measure_trace(c, seed, errors);
  const double step = trace_step_variance(parameters_of(c)).value, size = 2048;
  const double front = errors.front.variance() / ((size * size - 1) / 3 * step);
  const double all = errors.norms.variance() / trace_norm2(parameters_of(c)).value;
  testing::Test::RecordProperty("coefficient_0_over_formula", fmt::format("{:.3f}", front));
  testing::Test::RecordProperty("norm_over_formula", fmt::format("{:.3f}", all));
  // As for the transforms alone, whose errors are most of the noise where the gadget is fine.
  EXPECT_NEAR(front, 1, 0.15);
  EXPECT_NEAR(all, 1, 0.15);
}

class StatisticalTrace : public testing::TestWithParam<WideCase> {};

TEST_P(StatisticalTrace, HasTheVarianceOfTheFormula) { expect_trace_variance(GetParam()); }

INSTANTIATE_TEST_SUITE_P(Cases, StatisticalTrace,
                         testing::Values(WideCase{20, {6, 3}, {9, 4}, 11, 10, 480},
                                         WideCase{20, {8, 2}, {7, 6}, 11, 10, 480}),
                         [](const auto& info) { return name_of(info.param); });

// A part for the default run.
class TraceNoise : public StatisticalTrace {};

TEST_P(TraceNoise, HasTheVarianceOfTheFormula) { expect_trace_variance(GetParam()); }

INSTANTIATE_TEST_SUITE_P(Quick, TraceNoise,
                         testing::Values(WideCase{20, {6, 3}, {9, 4}, 11, 8, 100}),
                         [](const auto& info) { return name_of(info.param); });

// The product of a mask with the key of the secret's square.
class StatisticalSecretSquare : public testing::TestWithParam<Gadget> {};

TEST_P(StatisticalSecretSquare, HasTheVarianceOfTheFormula) {
  const TfheParameters p = parameters_of(WideCase{20, {6, 3}, GetParam(), 11, 0, 0});
  const std::size_t size = 2048, square = 11;
  Errors errors;
  for (std::uint64_t seed = 1; seed <= 40; ++seed) {
    const Keys keys = Keys::make(p, seed);
    const auto& state = keys.evaluation.state();
    ExternalProduct product(state, state.trace_step, p.trace, 1);
    std::mt19937_64 random(seed);
    for (int turn = 0; turn < 24; ++turn) {
      Glwe operand(size), result(size);
      for (auto& word : operand.mask()) word = random();
      product.split(0, 0, operand.data());
      product.multiply(state.trace_matrix(square), 1, size);
      for (std::size_t column = 0; column < 2; ++column)
        product.add(0, column, result.data() + column * size);
      std::vector<Torus> once(size), exact(size);
      subtract_mask(keys, 0, operand.mask(), once);  // -S A
      subtract_mask(keys, 0, once, exact);           // S^2 A
      const std::vector<Torus> phase = result.phase(keys);
      for (std::size_t j = 0; j < size; ++j) errors.add(centred(phase[j] - exact[j]));
    }
  }
  expect_variance(errors, secret_square_variance(p));
}

INSTANTIATE_TEST_SUITE_P(Cases, StatisticalSecretSquare,
                         testing::Values(Gadget{9, 4}, Gadget{7, 6}), [](const auto& info) {
                           return fmt::format("Trace{}x{}", info.param.level_count,
                                              info.param.base_log2);
                         });

// GGSW ciphertexts of `bits` ones, made as a wide lookup makes them.
class OneBits {
 public:
  OneBits(const Keys& keys, std::uint32_t bits)
      : keys_(keys),
        state_(keys.evaluation.state()),
        bits_(bits),
        matrix_doubles_(ggsw_shape(state_.parameters).matrix_doubles(state_.size() / 2)),
        rotation_(state_, 0, kMostItems),
        bootstrap_(state_, levels()),
        matrices_(bits * matrix_doubles_) {}

  std::vector<const double*> make(std::mt19937_64& random) {
    const std::size_t n = state_.small(), size = state_.size();
    // Coefficient j: half the message of level j + 1; the other functions do not matter.
    std::vector<Torus> table(size);
    for (auto& word : table) word = random();
    for (std::size_t level = 1; level <= levels(); ++level) table[level - 1] = half_message(level);
    std::vector<const double*> result;
    for (std::uint32_t first = 0; first < bits_; first += kMostItems) {
      const std::uint32_t count = std::min<std::uint32_t>(kMostItems, bits_ - first);
      std::vector<std::uint32_t> switched(count * (n + 1));
      for (std::uint32_t c = 0; c < count; ++c) {
        std::uint32_t* row = switched.data() + c * (n + 1);
        std::uint32_t body = 0;
        for (std::size_t i = 0; i < n; ++i) {
          row[i] = static_cast<std::uint32_t>(random() % (2 * size));
          if (keys_.secret.small()[i] != 0) body += row[i];
        }
        row[n] = body % (2 * size);  // index 0
      }
      rotation_.run(switched.data(), std::vector<const Torus*>(count, table.data()));
      for (std::uint32_t c = 0; c < count; ++c) result.push_back(make_matrix(c, first + c));
    }
    return result;
  }

 private:
  std::size_t levels() const { return state_.parameters.circuit_bootstrap.level_count; }
  Torus half_message(std::size_t level) const {
    return Torus{1} << (63 - state_.parameters.circuit_bootstrap.base_log2 * level);
  }

  const double* make_matrix(std::uint32_t c, std::uint32_t bit) {
    const std::size_t size = state_.size();
    const int size_log2 = std::countr_zero(size);
    const std::vector<Torus> accumulator[] = {rotation_.accumulator(c, 0, 0),
                                              rotation_.accumulator(c, 0, 1)};
    std::vector<Torus> glwes;
    for (std::size_t level = 1; level <= levels(); ++level) {
      for (std::size_t column = 0; column < 2; ++column) {
        std::vector<Torus> polynomial = rotated(accumulator[column], level - 1);
        if (column == 1) polynomial[0] += half_message(level);
        for (const Torus word : polynomial) glwes.push_back(word >> size_log2);
      }
    }
    bootstrap_.trace(glwes.data(), levels());
    double* matrix = matrices_.data() + bit * matrix_doubles_;
    bootstrap_.make_ggsw(glwes.data(), static_cast<int>(bit) < size_log2 ? 1 : kHalfNegated,
                         matrix);
    return matrix;
  }

  const Keys& keys_;
  const EvaluationKeys::State& state_;
  const std::uint32_t bits_;
  const std::size_t matrix_doubles_;
  BlindRotation rotation_;
  CircuitBootstrap bootstrap_;
  AlignedBuffer<double> matrices_;
};

WideShape shape_of(const WideCase& c) {
  return {.index_bits = c.index_bits, .bits_per_rotation = 1, .digit_bits = 4, .digit_count = 4};
}

// Digits of the entry whose address is all ones, and what else its polynomials hold.
void measure_packing(const WideCase& c, std::uint64_t seed, Errors& errors) {
  const Keys keys = Keys::make(parameters_of(c), seed);
  const WideShape shape = shape_of(c);
  const std::size_t size = 2048, values = std::size_t{1} << c.index_bits;
  std::mt19937_64 random(seed);
  std::vector<std::uint64_t> entries(values);
  for (auto& entry : entries) entry = random() >> 48;
  const WideTable table({2048}, shape, entries,
                        std::vector(shape.digit_count, std::vector<Torus>(16)));
  OneBits bits(keys, c.index_bits);
  VerticalPacking packing(keys.evaluation.state());
  for (std::size_t turn = 0; turn < c.turns_per_key; ++turn) {
    const std::vector<const double*> matrices = bits.make(random);
    std::vector<Torus> glwes(table.packed() * 2 * size);
    packing.run(matrices, table, glwes.data());
    for (std::size_t q = 0; q < table.packed(); ++q) {
      const Torus* leaf = table.polynomials(q) + (table.leaves() - 1) * size;
      const auto exact = rotated(std::vector<Torus>(leaf, leaf + size), std::min(values, size) - 1);
      const Torus* mask = glwes.data() + q * 2 * size;
      std::vector<Torus> phase(mask + size, mask + 2 * size);
      subtract_mask(keys, 0, {mask, size}, phase);
      for (std::size_t j = 0; j < size; ++j) errors.add(centred(phase[j] - exact[j]));
    }
  }
}

void expect_packing_variance(const WideCase& c, double tolerance) {
  const TfheParameters p = parameters_of(c);
  Errors errors;
  for (std::uint64_t seed = 1; seed <= c.keys; ++seed) measure_packing(c, seed, errors);
  const PackingNoise packing = packing_noise(p, shape_of(c));
  expect_variance(errors, {packing.gain * blind_rotation_variance(p).value + packing.floor.value},
                  tolerance);
}

class StatisticalVerticalPacking : public testing::TestWithParam<WideCase> {};

TEST_P(StatisticalVerticalPacking, HasTheVarianceOfTheFormula) {
  expect_packing_variance(GetParam(), kTolerance);
}

INSTANTIATE_TEST_SUITE_P(Cases, StatisticalVerticalPacking,
                         testing::Values(WideCase{686, {6, 3}, {9, 4}, 11, 10, 30},
                                         WideCase{686, {6, 3}, {9, 4}, 13, 10, 30},
                                         WideCase{686, {8, 2}, {7, 6}, 11, 10, 30}),
                         [](const auto& info) { return name_of(info.param); });

// A part for the default run: with few steps, so that the rotation's noise is small.
class VerticalPackingNoise : public StatisticalVerticalPacking {};

TEST_P(VerticalPackingNoise, HasTheVarianceOfTheFormula) {
  expect_packing_variance(GetParam(), kQuickTolerance);
}

INSTANTIATE_TEST_SUITE_P(Quick, VerticalPackingNoise,
                         testing::Values(WideCase{20, {6, 3}, {9, 4}, 11, 4, 8}),
                         [](const auto& info) { return name_of(info.param); });

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
