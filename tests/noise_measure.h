// What tests of noise share: errors against a formula, and keys of their own.
//
// Sample sizes make a false alarm rarer than 1e-6 although errors are not independent: the errors
// of the masks meet the mean 1/2 of the key, so that a third of the variance of an accumulator
// moves in two or three directions only, and the ratio of R rotations is off by 0.3 / sqrt(R).
// Hence a thousand rotations, where ten would give enough coefficients.
#pragma once

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <span>
#include <vector>

#include "parameters/noise.h"
#include "random/test_seed.h"
#include "tfhe/bootstrap.h"
#include "tfhe/secret_keys.h"

namespace torusml {

// Of suites named Statistical, and of their parts for the default run.
inline constexpr double kTolerance = 0.05, kQuickTolerance = 0.1;

inline double centred(Torus word) {
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

inline void expect_variance(const Errors& errors, Variance formula, double tolerance = kTolerance) {
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

// Takes a polynomial of a mask times that of the big key from a phase.
inline void subtract_mask(const Keys& keys, std::size_t r, std::span<const Torus> mask,
                          std::vector<Torus>& phase) {
  const std::size_t size = mask.size();
  for (std::size_t j = 0; j < size; ++j) {
    if (keys.secret.big[r * size + j] == 0) continue;
    for (std::size_t i = 0; i + j < size; ++i) phase[i + j] -= mask[i];
    for (std::size_t i = size - j; i < size; ++i) phase[i + j - size] += mask[i];
  }
}

// X^-index * table.
inline std::vector<Torus> rotated(const std::vector<Torus>& table, std::size_t index) {
  const std::size_t period = table.size();
  std::vector<Torus> result(period);
  for (std::size_t j = 0; j < period; ++j) {
    const std::size_t from = (j + index) % (2 * period);
    result[j] = from < period ? table[from] : 0 - table[from - period];
  }
  return result;
}

}  // namespace torusml
