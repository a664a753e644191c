#include "quantization/weight_quantization.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "torusml/quantizer.h"

namespace torusml {
namespace {

bool is_centred(const std::vector<double>& weights, const std::vector<std::int64_t>& counts) {
  const MinMaxQuantizationStats range = min_max_stats(weights);
  if (range.rmin >= 0 || range.rmax <= 0) return false;
  const double ratio = std::abs(range.rmin / range.rmax);
  return ratio > 1.0 / 3 && ratio < 3 && percentile(weights, counts, 0.03) < 0 &&
         percentile(weights, counts, 0.97) > 0;
}

constexpr int kSteps = 100;  // fractions of the step that clips nothing
constexpr int kLeastStep = 20;

std::vector<std::int64_t> in_steps(std::span<const double> weights, double scale, int bits) {
  const double highest = std::ldexp(1.0, bits - 1) - 1;
  std::vector<std::int64_t> integers;
  for (double w : weights) {
    integers.push_back(
        static_cast<std::int64_t>(std::clamp(std::nearbyint(w / scale), -highest - 1, highest)));
  }
  return integers;
}

double squared_error(std::span<const double> weights, const std::vector<std::int64_t>& counts,
                     const IntegerWeights& quantized) {
  double sum = 0;
  for (std::size_t i = 0; i < weights.size(); ++i) {
    const double error = weights[i] - quantized.scale * static_cast<double>(quantized.integers[i]);
    sum += error * error * (counts.empty() ? 1.0 : static_cast<double>(counts[i]));
  }
  return sum;
}

}  // namespace

double percentile(std::vector<double> values, double fraction) {
  const double place = fraction * static_cast<double>(values.size() - 1);
  const auto low = values.begin() + static_cast<std::ptrdiff_t>(place);
  std::nth_element(values.begin(), low, values.end());
  if (low + 1 == values.end()) return *low;
  const double next = *std::min_element(low + 1, values.end());
  return *low + (place - std::floor(place)) * (next - *low);
}

double percentile(const std::vector<double>& values, const std::vector<std::int64_t>& counts,
                  double fraction) {
  if (counts.empty()) return percentile(values, fraction);
  std::vector<std::pair<double, std::int64_t>> sorted;
  std::int64_t total = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    sorted.emplace_back(values[i], counts[i]);
    total += counts[i];
  }
  std::ranges::sort(sorted);
  const double place = fraction * static_cast<double>(total - 1);
  const auto value_at = [&](std::int64_t index) {
    auto at = sorted.begin();
    while (index >= at->second) index -= (at++)->second;
    return at->first;
  };
  const auto low = static_cast<std::int64_t>(place);
  if (low + 1 == total) return value_at(low);
  return value_at(low) + (place - std::floor(place)) * (value_at(low + 1) - value_at(low));
}

IntegerWeights quantize_weights(const std::vector<double>& weights, int bits,
                                const std::vector<std::int64_t>& counts) {
  QuantizationOptions options{.n_bits = bits};
  options.is_signed = options.is_symmetric = bits > 1 && is_centred(weights, counts);
  const UniformQuantizer quantizer = UniformQuantizer::fit(options, weights);
  IntegerWeights result{quantizer.quantize(weights), quantizer.parameters().scale[0]};
  for (std::int64_t& integer : result.integers) integer -= quantizer.parameters().zero_point[0];
  return result;
}

IntegerWeights quantize_symmetric(std::span<const double> weights, int bits, bool least_error,
                                  const std::vector<std::int64_t>& counts) {
  double largest = 0;
  for (double w : weights) largest = std::max(largest, std::abs(w));
  if (largest == 0) return {std::vector<std::int64_t>(weights.size(), 0), 1};
  const double widest = largest / (std::ldexp(1.0, bits - 1) - 1);
  IntegerWeights best{in_steps(weights, widest, bits), widest};
  if (!least_error) return best;
  double least = squared_error(weights, counts, best);
  for (int i = kLeastStep; i < kSteps; ++i) {
    const double scale = widest * i / kSteps;
    IntegerWeights found{in_steps(weights, scale, bits), scale};
    const double error = squared_error(weights, counts, found);
    if (error >= least) continue;
    least = error;
    best = std::move(found);
  }
  return best;
}

}  // namespace torusml
