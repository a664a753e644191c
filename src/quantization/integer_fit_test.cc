// Fitted integers against all integers that there are.

#include "quantization/integer_fit.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>

namespace torusml {
namespace {

RowMatrix random_integers(std::mt19937_64& random, Eigen::Index rows, Eigen::Index columns) {
  RowMatrix x(rows, columns);
  for (Eigen::Index i = 0; i < x.size(); ++i) x.data()[i] = static_cast<double>(random() % 8);
  return x;
}

RowMatrix random_weights(std::mt19937_64& random, Eigen::Index rows, Eigen::Index columns) {
  std::normal_distribution<double> normal;
  RowMatrix w(rows, columns);
  for (Eigen::Index i = 0; i < w.size(); ++i) w.data()[i] = normal(random);
  return w;
}

// Of channel c with the best step and shift.
double error_of(const RowMatrix& x, const Eigen::VectorXd& y, const Eigen::VectorXd& integers) {
  const Eigen::VectorXd sums = x * integers;
  const Eigen::VectorXd a = sums.array() - sums.mean(), b = y.array() - y.mean();
  const double norm = a.squaredNorm();
  return b.squaredNorm() - (norm > 0 ? std::pow(a.dot(b), 2) / norm : 0);
}

Eigen::VectorXd integers_of(const IntegerFit& fit, Eigen::Index channel, Eigen::Index count) {
  Eigen::VectorXd result(count);
  for (Eigen::Index k = 0; k < count; ++k)
    result[k] = static_cast<double>(fit.integers[static_cast<std::size_t>(channel * count + k)]);
  return result;
}

double error_of(const IntegerFit& fit, const RowMatrix& x, const RowMatrix& y) {
  double sum = 0;
  for (Eigen::Index c = 0; c < y.cols(); ++c) {
    const Eigen::VectorXd found =
        (fit.scale[static_cast<std::size_t>(c)] * (x * integers_of(fit, c, x.cols()))).array() +
        fit.shift[static_cast<std::size_t>(c)];
    sum += (found - y.col(c)).squaredNorm();
  }
  return sum;
}

TEST(FitIntegers, IsNearTheBestOfAllIntegers) {
  std::mt19937_64 random(1);
  constexpr int kParameters = 4, kLevels = 8;
  double found = 0, best = 0;
  for (int trial = 0; trial < 20; ++trial) {
    const RowMatrix x = random_integers(random, 60, kParameters);
    const RowMatrix w = random_weights(random, 1, kParameters);
    const RowMatrix y = x * w.transpose();
    const IntegerFit fit = fit_integers(x, y, w, {.bits = 3});
    double least = HUGE_VAL;
    for (int code = 0; code < kLevels * kLevels * kLevels * kLevels; ++code) {
      Eigen::VectorXd integers(kParameters);
      for (int k = 0, rest = code; k < kParameters; ++k, rest /= kLevels)
        integers[k] = rest % kLevels - 4;
      least = std::min(least, error_of(x, y.col(0), integers));
    }
    const double own = error_of(x, y.col(0), integers_of(fit, 0, kParameters));
    EXPECT_NEAR(own, error_of(fit, x, y), 1e-6 * y.squaredNorm()) << "step and shift are the best";
    found += own;
    best += least;
  }
  EXPECT_LE(found, 1.15 * best);
}

TEST(FitIntegers, BeatsRoundingOnNewSamples) {
  std::mt19937_64 random(2);
  const RowMatrix w = random_weights(random, 6, 30);
  // Correlated features, as of neighbouring neurons.
  const RowMatrix mix = random_weights(random, 8, 30);
  const auto draw = [&] {
    return RowMatrix((random_weights(random, 400, 8) * mix).array().round());
  };
  const RowMatrix x = draw(), fresh = draw();
  const IntegerFit fit = fit_integers(x, x * w.transpose(), w, {.bits = 3});
  IntegerFit plain;
  for (Eigen::Index c = 0; c < w.rows(); ++c) {
    plain.scale.push_back(w.row(c).cwiseAbs().maxCoeff() / 3);
    plain.shift.push_back(0);
    for (Eigen::Index k = 0; k < w.cols(); ++k)
      plain.integers.push_back(
          static_cast<std::int64_t>(std::nearbyint(w(c, k) / plain.scale.back())));
  }
  const RowMatrix y = fresh * w.transpose();
  EXPECT_LT(error_of(fit, fresh, y), 0.25 * error_of(plain, fresh, y));
}

TEST(FitIntegers, FindsIntegersThatAreThere) {
  std::mt19937_64 random(3);
  const RowMatrix x = random_integers(random, 200, 12);
  RowMatrix w(3, 12);
  for (Eigen::Index i = 0; i < w.size(); ++i)
    w.data()[i] = 0.25 * (static_cast<double>(random() % 7) - 3);
  w.col(0).setConstant(0.75);
  const RowMatrix y = x * w.transpose();
  for (const bool has_one_scale : {false, true}) {
    const IntegerFit fit = fit_integers(x, y, w, {.bits = 3, .has_one_scale = has_one_scale});
    EXPECT_LT(error_of(fit, x, y), 1e-6 * y.squaredNorm());
  }
}

TEST(FitIntegers, OneScaleIsPositiveAndShared) {
  std::mt19937_64 random(4);
  const RowMatrix x = random_integers(random, 100, 5), w = random_weights(random, 3, 5);
  const IntegerFit fit = fit_integers(x, x * w.transpose(), w, {.bits = 4, .has_one_scale = true});
  EXPECT_GT(fit.scale[0], 0);
  EXPECT_EQ(fit.scale, std::vector<double>(3, fit.scale[0]));
}

TEST(FitIntegers, KeepsPrunedWeightsAndTheLimitOfWidth) {
  std::mt19937_64 random(5);
  const RowMatrix x = random_integers(random, 300, 20);
  RowMatrix w = random_weights(random, 2, 20);
  w(0, 3) = w(0, 7) = 0;
  const RowMatrix y = x * w.transpose();
  const auto width = [&](const IntegerFit& fit, Eigen::Index c) {
    const Eigen::VectorXd sums = x * integers_of(fit, c, 20);
    return sums.maxCoeff() - sums.minCoeff();
  };
  const IntegerFit free = fit_integers(x, y, w, {.bits = 4});
  EXPECT_EQ(free.integers[3], 0);
  EXPECT_EQ(free.integers[7], 0);
  const IntegerFit narrow = fit_integers(x, y, w, {.bits = 4, .most_width = 40});
  EXPECT_GT(width(free, 1), 40);
  EXPECT_LE(width(narrow, 0), 40);
  EXPECT_LE(width(narrow, 1), 40);
  EXPECT_LT(error_of(free, x, y), error_of(narrow, x, y));
}

TEST(FitIntegers, OfSilentFeaturesKeepsTheWeights) {
  const RowMatrix x = RowMatrix::Zero(10, 3), y = RowMatrix::Constant(10, 1, 2.0);
  RowMatrix w(1, 3);
  w << 1, -3, 2;
  const IntegerFit fit = fit_integers(x, y, w, {.bits = 3});
  EXPECT_EQ(fit.integers, (std::vector<std::int64_t>{1, -3, 2}));
  EXPECT_DOUBLE_EQ(fit.scale[0], 1);
  EXPECT_DOUBLE_EQ(fit.shift[0], 2);
}

}  // namespace
}  // namespace torusml
