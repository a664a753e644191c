// Calibration methods against brute force, on small tensors.

#include "quantization/activation_calibration.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "quantization/weight_quantization.h"

namespace torusml {
namespace {

constexpr int kBits = 3;

// Of a Relu, with a few values far beyond the others.
std::vector<double> activations(int outliers) {
  std::mt19937_64 random(1);
  std::normal_distribution<double> normal;
  std::vector<double> values;
  for (int i = 0; i < 4000; ++i) values.push_back(std::max(0.0, normal(random)));
  for (int i = 0; i < outliers; ++i) values.push_back(20.0 + i);
  return values;
}

double squared_error(const std::vector<double>& values, const UniformQuantizer& q) {
  const std::vector<double> back = q.dequantize(q.quantize(values));
  double sum = 0;
  for (std::size_t i = 0; i < values.size(); ++i)
    sum += (values[i] - back[i]) * (values[i] - back[i]);
  return sum;
}

double highest_value(const UniformQuantizer& q) {
  return q.dequantize(std::vector<std::int64_t>{q.highest()})[0];
}

UniformQuantizer by(QuantizationMethod method, const std::vector<double>& values,
                    double percentile = 99.9) {
  return calibrate(values, kBits, {method, percentile});
}

TEST(Calibrate, MinMaxIsTheRange) {
  const std::vector<double> values = activations(2);
  EXPECT_EQ(by(QuantizationMethod::minmax, values),
            UniformQuantizer::fit({.n_bits = kBits}, values));
}

TEST(Calibrate, PercentileIsNumPys) {
  std::vector<double> values;
  for (int i = 0; i <= 100; ++i) values.push_back(i);
  EXPECT_EQ(by(QuantizationMethod::percentile, values, 90).parameters(),
            quantization_parameters({.n_bits = kBits}, {10, 90}));
  EXPECT_EQ(by(QuantizationMethod::percentile, values, 100),
            by(QuantizationMethod::minmax, values));
}

TEST(Calibrate, PercentileOfValuesThatAreAlmostAllEqualKeepsTheRange) {
  std::vector<double> values(1000, 0.0);
  values[3] = 5;
  EXPECT_EQ(by(QuantizationMethod::percentile, values, 90), by(QuantizationMethod::minmax, values));
}

TEST(Calibrate, MseIsNoWorseThanBruteForce) {
  for (const int outliers : {0, 5}) {
    const std::vector<double> values = activations(outliers);
    const MinMaxQuantizationStats range = min_max_stats(values);
    double least = HUGE_VAL;
    for (int i = 1; i <= 2000; ++i) {
      const UniformQuantizer q = clipped_quantizer(range, kBits, range.rmax * i / 2000);
      least = std::min(least, squared_error(values, q));
    }
    const double found = squared_error(values, by(QuantizationMethod::mse, values));
    EXPECT_LE(found, 1.03 * least);
    EXPECT_LE(found, squared_error(values, by(QuantizationMethod::minmax, values)));
  }
}

TEST(Calibrate, MseOfSignedValuesClipsBothSides) {
  std::vector<double> values = activations(0);
  for (std::size_t i = 0; i < values.size(); i += 2) values[i] = -values[i];
  values[0] = 30;
  values[1] = -30;
  const UniformQuantizer q = by(QuantizationMethod::mse, values);
  EXPECT_TRUE(q.options().is_signed);
  EXPECT_LT(highest_value(q), 25);
}

TEST(Calibrate, EntropyClipsOutliersAndKeepsUniformValues) {
  EXPECT_LT(highest_value(by(QuantizationMethod::entropy, activations(3))), 10);
  std::vector<double> uniform;
  for (int i = 0; i < 5000; ++i) uniform.push_back(i / 5000.0);
  EXPECT_GT(highest_value(by(QuantizationMethod::entropy, uniform)), 0.95);
}

TEST(Calibrate, ConstantsKeepTheirValue) {
  for (const QuantizationMethod method :
       {QuantizationMethod::minmax, QuantizationMethod::percentile, QuantizationMethod::mse,
        QuantizationMethod::entropy}) {
    const std::vector<double> values(10, 2.5);
    const UniformQuantizer q = by(method, values);
    EXPECT_EQ(q.dequantize(q.quantize(values)), values) << to_string(method);
  }
}

TEST(QuantizeSymmetric, LeastErrorIsNoWorseThanBruteForce) {
  std::mt19937_64 random(2);
  std::normal_distribution<double> normal;
  std::vector<double> weights;
  for (int i = 0; i < 50; ++i) weights.push_back(normal(random));
  const auto error = [&](const IntegerWeights& q) {
    double sum = 0;
    for (std::size_t i = 0; i < weights.size(); ++i)
      sum += std::pow(weights[i] - q.scale * static_cast<double>(q.integers[i]), 2);
    return sum;
  };
  double least = HUGE_VAL;
  for (int i = 1; i <= 1000; ++i) {
    IntegerWeights q{{}, 0.002 * i};
    for (double w : weights) {
      q.integers.push_back(
          static_cast<std::int64_t>(std::clamp(std::nearbyint(w / q.scale), -4.0, 3.0)));
    }
    least = std::min(least, error(q));
  }
  EXPECT_LE(error(quantize_symmetric(weights, 3, true)), 1.02 * least);
  EXPECT_LT(error(quantize_symmetric(weights, 3, true)),
            error(quantize_symmetric(weights, 3, false)));
}

TEST(QuantizeSymmetric, ByHand) {
  const IntegerWeights q = quantize_symmetric(std::vector<double>{-3, 1.4, 0.2}, 3, false);
  EXPECT_EQ(q.scale, 1.0);
  EXPECT_EQ(q.integers, (std::vector<std::int64_t>{-3, 1, 0}));
  EXPECT_EQ(quantize_symmetric(std::vector<double>{0, 0}, 3, true).scale, 1.0);
}

TEST(QuantizationMethod, NamesReadBack) {
  for (const char* name : {"compatible", "minmax", "percentile", "mse", "entropy", "best"})
    EXPECT_EQ(to_string(parse_quantization_method(name)), name);
  EXPECT_EQ(parse_quantization_method(""), QuantizationMethod::compatible);
}

}  // namespace
}  // namespace torusml
