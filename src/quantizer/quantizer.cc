#include "torusml/quantizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/declassify.h"
#include "quantizer/finite.h"
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
  if (options.is_symmetric && options.n_bits < 2) {
    throw Error(ErrorCode::unsupported_bits,
                "a symmetric quantizer of 1 bit has no integer above zero", "", "2 bits or more");
  }
}

std::int64_t signed_offset(const QuantizationOptions& options) {
  return options.is_signed ? std::int64_t{1} << (options.n_bits - 1) : 0;
}

double rounded(double value) { return std::nearbyint(value); }  // half to even in the default mode

// The same for |value| < 2^51, in a form that compilers vectorise: the sum has no bits for
// fractions.
double rounded_small(double value) {
  constexpr double kShift = 0x1.8p52;
  return (value + kShift) - kShift;
}

// Without a branch, as the values may be secret.
double clipped(double value, double lower, double upper) {
  return std::min(std::max(value, lower), upper);
}

void check_inner(std::int64_t inner) {
  if (inner < 1) {
    throw Error(ErrorCode::invalid_argument,
                fmt::format("inner is {}; a channel has at least one element", inner));
  }
}

}  // namespace

void check_finite(std::span<const double> values, const std::string& name) {
  bool all_finite = true;
  for (double value : values) all_finite &= std::abs(value) <= std::numeric_limits<double>::max();
  if (declassified(all_finite)) return;
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (std::isfinite(values[i])) continue;
    throw Error(ErrorCode::non_finite_value, fmt::format("element {} is {}", i, values[i]),
                name.empty() ? "" : fmt::format("'{}'", name));
  }
}

MinMaxQuantizationStats min_max_stats(std::span<const double> values) {
  if (values.empty())
    throw Error(ErrorCode::empty_calibration, "there are no values to take a range from");
  check_finite(values);
  MinMaxQuantizationStats stats{values[0], values[0]};
  for (double value : values) {
    stats.rmin = value < stats.rmin ? value : stats.rmin;
    stats.rmax = value > stats.rmax ? value : stats.rmax;
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
  check_inner(inner);
  check_finite(values);
  std::vector<std::int64_t> integers(values.size());
  const bool is_per_tensor = parameters_.scale.size() == 1 && parameters_.zero_point.size() == 1;
  const auto lower = static_cast<double>(lowest()), upper = static_cast<double>(highest());
  if (is_per_tensor && !no_clipping) {
    const double scale = parameters_.scale[0];
    const auto zero_point = static_cast<double>(parameters_.zero_point[0]);
    for (std::size_t i = 0; i < values.size(); ++i) {
      integers[i] = static_cast<std::int64_t>(
          rounded_small(clipped(values[i] / scale + zero_point, lower, upper)));
    }
    return integers;
  }
  // Integers beyond this are not exact in float64, and far beyond any quantizer's range.
  constexpr double kLimit = 0x1p62;
  for (std::size_t i = 0; i < values.size(); ++i) {
    const std::size_t channel = i / static_cast<std::size_t>(inner);
    const double scale = parameters_.scale[channel % parameters_.scale.size()];
    const std::int64_t zero_point = parameters_.zero_point[channel % parameters_.zero_point.size()];
    const double integer = values[i] / scale + static_cast<double>(zero_point);
    integers[i] =
        static_cast<std::int64_t>(no_clipping ? std::clamp(rounded(integer), -kLimit, kLimit)
                                              : rounded_small(clipped(integer, lower, upper)));
  }
  return integers;
}

std::vector<double> UniformQuantizer::dequantize(std::span<const std::int64_t> integers,
                                                 std::int64_t inner) const {
  check_inner(inner);
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
  check_inner(inner);
  check_finite(values);
  const auto lower = static_cast<double>(lowest()), upper = static_cast<double>(highest());
  std::int64_t count = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    const std::size_t channel = i / static_cast<std::size_t>(inner);
    const double scale = parameters_.scale[channel % parameters_.scale.size()];
    const std::int64_t zero_point = parameters_.zero_point[channel % parameters_.zero_point.size()];
    const double integer = rounded_small(
        clipped(values[i] / scale + static_cast<double>(zero_point), lower - 1, upper + 1));
    count += (integer < lower) | (integer > upper);
  }
  return count;
}

}  // namespace torusml
