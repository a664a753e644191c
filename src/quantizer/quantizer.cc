#include "torusml/quantizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "torusml/error.h"

namespace torusml {
namespace {

constexpr int kMaxBits = 32;
// Below this width data count as constant.
constexpr double kStabilityConstant = 1e-6;

void check_options(const QuantizationOptions& options) {
  if (options.n_bits < 1 || options.n_bits > kMaxBits) {
    throw Error(ErrorCode::unsupported_bits,
                fmt::format("n_bits is {}; 1 to {} are supported", options.n_bits, kMaxBits));
  }
  if (options.is_symmetric && !options.is_signed) {
    throw Error(ErrorCode::invalid_argument, "a symmetric quantizer must be signed", "",
                "is_signed=True");
  }
  if (options.is_symmetric && options.is_qat) {
    throw Error(ErrorCode::invalid_argument, "is_symmetric and is_qat exclude each other");
  }
}

std::int64_t signed_offset(const QuantizationOptions& options) {
  return options.is_signed ? std::int64_t{1} << (options.n_bits - 1) : 0;
}

double rounded(double value) { return std::nearbyint(value); }  // half to even in the default mode

}  // namespace

MinMaxQuantizationStats min_max_stats(std::span<const double> values) {
  if (values.empty())
    throw Error(ErrorCode::empty_calibration, "there are no values to take a range from");
  MinMaxQuantizationStats stats{values[0], values[0]};
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (!std::isfinite(values[i]))
      throw Error(ErrorCode::non_finite_value, fmt::format("element {} is {}", i, values[i]));
    stats.rmin = std::min(stats.rmin, values[i]);
    stats.rmax = std::max(stats.rmax, values[i]);
  }
  return stats;
}

UniformQuantizationParameters quantization_parameters(const QuantizationOptions& options,
                                                      const MinMaxQuantizationStats& stats) {
  check_options(options);
  if (!std::isfinite(stats.rmin) || !std::isfinite(stats.rmax) || stats.rmin > stats.rmax) {
    throw Error(ErrorCode::invalid_argument,
                fmt::format("range [{}, {}] is not a range", stats.rmin, stats.rmax));
  }
  const double levels = static_cast<double>((std::int64_t{1} << options.n_bits) - 1);
  const double width = stats.rmax - stats.rmin;
  if (width < kStabilityConstant) {
    if (std::abs(stats.rmax) < kStabilityConstant) {
      return {{1.0}, {static_cast<std::int64_t>(rounded(-stats.rmin))}, 0};
    }
    return {{stats.rmax}, {0}, 0};
  }
  const std::int64_t offset = signed_offset(options);
  const double above = levels - static_cast<double>(offset);
  if (options.is_symmetric) {
    return {{std::max(std::abs(stats.rmax), std::abs(stats.rmin)) / above}, {0}, offset};
  }
  const double scale = width / levels;
  if (options.is_qat) return {{scale}, {0}, offset};
  const double zero_point =
      rounded((-stats.rmax * static_cast<double>(offset) - stats.rmin * above) / width);
  return {{scale}, {static_cast<std::int64_t>(zero_point)}, offset};
}

UniformQuantizer::UniformQuantizer(QuantizationOptions options,
                                   UniformQuantizationParameters parameters)
    : options_(options), parameters_(std::move(parameters)) {
  check_options(options_);
  if (parameters_.scale.empty() || parameters_.zero_point.empty()) {
    throw Error(ErrorCode::invalid_argument, "a quantizer needs a scale and a zero point");
  }
  if (parameters_.scale.size() != parameters_.zero_point.size() && parameters_.scale.size() != 1 &&
      parameters_.zero_point.size() != 1) {
    throw Error(ErrorCode::wrong_shape,
                fmt::format("{} scales do not fit {} zero points", parameters_.scale.size(),
                            parameters_.zero_point.size()));
  }
  for (double scale : parameters_.scale) {
    if (!std::isfinite(scale) || scale == 0) {
      throw Error(ErrorCode::invalid_argument,
                  fmt::format("scale is {}; it must be finite and not zero", scale));
    }
  }
}

UniformQuantizer UniformQuantizer::fit(const QuantizationOptions& options,
                                       std::span<const double> values) {
  return {options, quantization_parameters(options, min_max_stats(values))};
}

std::int64_t UniformQuantizer::lowest() const {
  return -parameters_.offset + (options_.is_narrow ? 1 : 0);
}

std::int64_t UniformQuantizer::highest() const {
  return (std::int64_t{1} << options_.n_bits) - 1 - parameters_.offset;
}

std::vector<std::int64_t> UniformQuantizer::quantize(std::span<const double> values,
                                                     std::int64_t inner, bool no_clipping) const {
  // Integers beyond this are not exact in float64, and far beyond any quantizer's range.
  constexpr double kLimit = 0x1p62;
  std::vector<std::int64_t> integers(values.size());
  const double lower = no_clipping ? -kLimit : static_cast<double>(lowest());
  const double upper = no_clipping ? kLimit : static_cast<double>(highest());
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (!std::isfinite(values[i]))
      throw Error(ErrorCode::non_finite_value, fmt::format("element {} is {}", i, values[i]));
    const std::size_t channel = i / static_cast<std::size_t>(inner);
    const double scale = parameters_.scale[channel % parameters_.scale.size()];
    const std::int64_t zero_point = parameters_.zero_point[channel % parameters_.zero_point.size()];
    const double integer = rounded(values[i] / scale + static_cast<double>(zero_point));
    integers[i] = static_cast<std::int64_t>(std::clamp(integer, lower, upper));
  }
  return integers;
}

std::vector<double> UniformQuantizer::dequantize(std::span<const std::int64_t> integers,
                                                 std::int64_t inner) const {
  std::vector<double> values(integers.size());
  for (std::size_t i = 0; i < integers.size(); ++i) {
    const std::size_t channel = i / static_cast<std::size_t>(inner);
    const double scale = parameters_.scale[channel % parameters_.scale.size()];
    const std::int64_t zero_point = parameters_.zero_point[channel % parameters_.zero_point.size()];
    values[i] = scale * static_cast<double>(integers[i] - zero_point);
  }
  return values;
}

std::int64_t UniformQuantizer::count_clipped(std::span<const double> values,
                                             std::int64_t inner) const {
  const std::vector<std::int64_t> clipped = quantize(values, inner),
                                  free = quantize(values, inner, true);
  std::int64_t count = 0;
  for (std::size_t i = 0; i < values.size(); ++i) count += clipped[i] != free[i];
  return count;
}

}  // namespace torusml
