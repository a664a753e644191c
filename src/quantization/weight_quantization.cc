#include "quantization/weight_quantization.h"

#include <algorithm>
#include <cmath>

#include "torusml/quantizer.h"

namespace torusml {
namespace {

bool is_centred(const std::vector<double>& weights) {
  const MinMaxQuantizationStats range = min_max_stats(weights);
  if (range.rmin >= 0 || range.rmax <= 0) return false;
  const double ratio = std::abs(range.rmin / range.rmax);
  return ratio > 1.0 / 3 && ratio < 3 && percentile(weights, 0.03) < 0 &&
         percentile(weights, 0.97) > 0;
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

IntegerWeights quantize_weights(const std::vector<double>& weights, int bits) {
  QuantizationOptions options{.n_bits = bits};
  options.is_signed = options.is_symmetric = bits > 1 && is_centred(weights);
  const UniformQuantizer quantizer = UniformQuantizer::fit(options, weights);
  IntegerWeights result{quantizer.quantize(weights), quantizer.parameters().scale[0]};
  for (std::int64_t& integer : result.integers) integer -= quantizer.parameters().zero_point[0];
  return result;
}

}  // namespace torusml
