// The noise of what wide lookups add, circuit bootstrapping and vertical packing, as in
// noise_test.cc (traces alone 15 %).
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <random>

#include "noise_measure.h"
#include "parameters/wide_lookups.h"
#include "tfhe/circuit_bootstrap.h"
#include "tfhe/secret_keys.h"
#include "tfhe/stages.h"
#include "tfhe/wide_lookup.h"

namespace torusml {
namespace {

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

}  // namespace
}  // namespace torusml
