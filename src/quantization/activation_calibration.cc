#include "quantization/activation_calibration.h"

#include <algorithm>
#include <cmath>

#include "quantization/weight_quantization.h"

namespace torusml {
namespace {

constexpr std::size_t kMostValues = std::size_t{1} << 16;
constexpr int kThresholds = 100;  // fractions of the largest absolute value
constexpr int kLeastThreshold = 5;
constexpr std::size_t kBins = 2048;
constexpr std::size_t kBinStep = 16;
constexpr double kStabilityConstant = 1e-6;  // of quantizers: below it, a range has no width

UniformQuantizer of_range(double lowest, double lower, double upper, int bits) {
  const QuantizationOptions options{.n_bits = bits, .is_signed = lowest < 0};
  return {options, quantization_parameters(options, {lower, upper})};
}

// Every n-th value, so that there are kMostValues at most.
std::vector<double> some_of(const std::vector<double>& values) {
  const std::size_t stride = (values.size() + kMostValues - 1) / kMostValues;
  std::vector<double> some;
  for (std::size_t i = 0; i < values.size(); i += stride) some.push_back(values[i]);
  return some;
}

double squared_error(const std::vector<double>& values, const UniformQuantizer& quantizer) {
  const std::vector<double> back = quantizer.dequantize(quantizer.quantize(values));
  double sum = 0;
  for (std::size_t i = 0; i < values.size(); ++i)
    sum += (values[i] - back[i]) * (values[i] - back[i]);
  return sum;
}

double largest_magnitude(const MinMaxQuantizationStats& range) {
  return std::max(std::abs(range.rmin), std::abs(range.rmax));
}

UniformQuantizer of_least_error(const std::vector<double>& values,
                                const MinMaxQuantizationStats& range, int bits) {
  const std::vector<double> some = some_of(values);
  const double largest = largest_magnitude(range);
  UniformQuantizer best = clipped_quantizer(range, bits, largest);
  double least = squared_error(some, best);
  for (int i = kLeastThreshold; i < kThresholds; ++i) {
    UniformQuantizer quantizer = clipped_quantizer(range, bits, largest * i / kThresholds);
    const double error = squared_error(some, quantizer);
    if (error >= least) continue;
    least = error;
    best = std::move(quantizer);
  }
  return best;
}

// Kullback-Leibler divergence of the first `count` bins, all beyond them in the last, from what is
// left of them in `levels` steps.
double divergence(const std::vector<double>& histogram, std::size_t count, std::size_t levels) {
  std::vector<double> p(histogram.begin(), histogram.begin() + static_cast<std::ptrdiff_t>(count));
  for (std::size_t i = count; i < histogram.size(); ++i) p.back() += histogram[i];
  double total_p = 0, total_q = 0;
  std::vector<double> q(count, 0.0);
  for (std::size_t level = 0; level < levels; ++level) {
    const std::size_t first = level * count / levels, last = (level + 1) * count / levels;
    double sum = 0, occupied = 0;
    for (std::size_t i = first; i < last; ++i) {
      sum += histogram[i];
      occupied += p[i] > 0;
    }
    for (std::size_t i = first; i < last; ++i) {
      if (p[i] > 0) q[i] = sum / occupied;
    }
  }
  for (std::size_t i = 0; i < count; ++i) {
    total_p += p[i];
    total_q += q[i];
  }
  if (total_q == 0) return HUGE_VAL;
  double sum = 0;
  for (std::size_t i = 0; i < count; ++i) {
    if (p[i] == 0) continue;
    // A bin of which all values were clipped into it counts as almost empty.
    const double share = std::max(q[i], 1e-3) / total_q;
    sum += p[i] / total_p * std::log(p[i] / total_p / share);
  }
  return sum;
}

// Zeros are left out: they have an integer of their own under any threshold.
UniformQuantizer of_least_divergence(const std::vector<double>& values,
                                     const MinMaxQuantizationStats& range, int bits) {
  const double largest = largest_magnitude(range);
  std::vector<double> histogram(kBins, 0.0);
  for (double v : some_of(values)) {
    const auto bin = static_cast<std::size_t>(std::abs(v) / largest * double(kBins));
    if (v != 0) histogram[std::min(bin, kBins - 1)] += 1;
  }
  const std::size_t levels = std::size_t{1} << std::min(bits - (range.rmin < 0 ? 1 : 0), 10);
  double least = divergence(histogram, kBins, levels);
  std::size_t best = kBins;
  for (std::size_t count = std::max(kBinStep, levels); count < kBins; count += kBinStep) {
    const double found = divergence(histogram, count, levels);
    if (found >= least) continue;
    least = found;
    best = count;
  }
  return clipped_quantizer(range, bits, largest * double(best) / double(kBins));
}

}  // namespace

UniformQuantizer clipped_quantizer(const MinMaxQuantizationStats& range, int bits,
                                   double threshold) {
  return of_range(range.rmin, std::clamp(range.rmin, -threshold, threshold),
                  std::clamp(range.rmax, -threshold, threshold), bits);
}

UniformQuantizer calibrate(const std::vector<double>& values, int bits,
                           const ActivationCalibration& calibration) {
  const MinMaxQuantizationStats range = min_max_stats(values);
  if (range.rmin == range.rmax) return of_range(range.rmin, range.rmin, range.rmax, bits);
  switch (calibration.method) {
    case QuantizationMethod::percentile: {
      const double share = calibration.percentile / 100;
      const double lower = percentile(values, 1 - share), upper = percentile(values, share);
      // Values of which almost all are equal keep their range.
      return upper - lower < kStabilityConstant ? of_range(range.rmin, range.rmin, range.rmax, bits)
                                                : of_range(range.rmin, lower, upper, bits);
    }
    case QuantizationMethod::mse:
    case QuantizationMethod::best:
      return of_least_error(values, range, bits);
    case QuantizationMethod::entropy:
      return of_least_divergence(values, range, bits);
    default:
      return of_range(range.rmin, range.rmin, range.rmax, bits);
  }
}

}  // namespace torusml
