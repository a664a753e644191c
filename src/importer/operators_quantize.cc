#include <fmt/format.h>

#include <Eigen/Core>
#include <algorithm>
#include <cmath>

#include "importer/broadcast.h"
#include "importer/onnx_types.h"
#include "importer/operator_functions.h"
#include "torusml/error.h"

namespace torusml {
namespace {

using Rounding = double (*)(double);

double round_half_even(double x) { return std::nearbyint(x); }
double round_up(double x) { return std::copysign(std::ceil(std::abs(x)), x); }
double round_half_up(double x) { return std::copysign(std::floor(std::abs(x) + 0.5), x); }
double round_half_down(double x) { return std::copysign(std::ceil(std::abs(x) - 0.5), x); }

// QONNX's names; "up" and "down" are away from and towards zero.
Rounding rounding_of(const FloatNode& node, const char* otherwise) {
  std::string mode = string_attribute(node, "rounding_mode", otherwise);
  std::transform(mode.begin(), mode.end(), mode.begin(),
                 [](unsigned char c) { return std::toupper(c); });
  if (mode == "ROUND" || mode == "HALF_EVEN") return round_half_even;
  if (mode == "CEIL") return [](double x) { return std::ceil(x); };
  if (mode == "FLOOR") return [](double x) { return std::floor(x); };
  if (mode == "UP") return round_up;
  if (mode == "DOWN" || mode == "ROUND_TO_ZERO") return [](double x) { return std::trunc(x); };
  if (mode == "HALF_UP") return round_half_up;
  if (mode == "HALF_DOWN") return round_half_down;
  throw Error(ErrorCode::not_supported, fmt::format("rounding mode '{}'", mode));
}

// A scale or zero point, seen by a tensor of the given shape: one value, or one per entry of
// `axis`.
Tensor<double> along_axis(const FloatNode& node, const FloatTensor& values, const Shape& shape) {
  const Tensor<double>& given = values.values;
  if (given.data.size() == 1) return {{}, given.data};
  if (given.shape.size() != 1 || integer_attribute(node, "block_size", 0) != 0) {
    throw Error(ErrorCode::not_supported,
                fmt::format("blocked quantization (a scale of shape {})", to_string(given.shape)));
  }
  const auto rank = static_cast<std::int64_t>(shape.size());
  const std::int64_t axis = normalized_axis(integer_attribute(node, "axis", 1), rank);
  if (shape[axis] != given.shape[0]) {
    throw Error(ErrorCode::wrong_shape, fmt::format("{} scales or zero points for {} channels",
                                                    given.shape[0], shape[axis]));
  }
  Shape view(rank - axis, 1);
  view[0] = given.shape[0];
  return {view, given.data};
}

Tensor<double> zero_point_of(const FloatNode& node, const Operands& operands, const Shape& shape) {
  if (operands.size() < 3 || !operands[2]) return {{}, {0}};
  return along_axis(node, *operands[2], shape);
}

void check_scale(const FloatTensor& scale) {
  for (double value : scale.values.data) {
    if (!std::isfinite(value) || value == 0) {
      throw Error(ErrorCode::invalid_model, fmt::format("a quantizer has scale {}", value), "",
                  "a scale above 0: was the quantizer trained, or calibrated, on data?");
    }
  }
}

IntegerRange range_of_bits(const FloatNode& node, const FloatTensor& bits) {
  if (bits.values.data.size() != 1) {
    throw Error(ErrorCode::not_supported,
                fmt::format("a quantizer with {} bit widths", bits.values.data.size()));
  }
  return range_of_bits(node, bits.values.data.front());
}

template <class Float>
double rounded_to(double value) {
  return static_cast<double>(static_cast<Float>(static_cast<float>(value)));
}

double cast_to_integer(double value, const IntegerRange& range, ElementType from) {
  const double whole = std::trunc(value);
  if (whole >= range.minimum && whole <= range.maximum) return whole;
  if (from != ElementType::integer) {
    throw Error(ErrorCode::not_supported,
                fmt::format("{} is cast to an integer type that ends at {}", value, range.maximum));
  }
  const double size = range.maximum - range.minimum + 1;  // integers wrap
  return whole - size * std::floor((whole - range.minimum) / size);
}

}  // namespace

IntegerRange range_of_bits(const FloatNode& node, double bits, const std::string& where) {
  if (!(bits >= 1 && bits <= 32) || bits != std::floor(bits)) {
    throw Error(ErrorCode::unsupported_bits, fmt::format("a quantizer has {} bits", bits), where,
                "1 to 32 whole bits");
  }
  const bool narrow = integer_attribute(node, "narrow", 0) != 0;
  const double half = std::ldexp(1.0, static_cast<int>(bits) - 1);
  if (integer_attribute(node, "signed", 1) != 0) return {narrow - half, half - 1};
  return {0, 2 * half - 1 - narrow};
}

FloatTensor truncated_scale(const Operands& operands) {
  if (operands.size() > 5) return *operands[4];
  const std::vector<double>&in = operands[3]->values.data, &out = operands[4]->values.data;
  if (in.size() != 1 || out.size() != 1)
    throw Error(ErrorCode::not_supported, "a Trunc with several bit widths");
  FloatTensor scale = *operands[1];
  for (double& value : scale.values.data) value *= std::exp2(in[0] - out[0]);
  return scale;
}

FloatTensor cast(const FloatNode& node, const Operands& operands) {
  const auto to = static_cast<int>(integer_attribute(node, "to", 0));
  const std::optional<ElementType> type = onnx_element_type(to);
  if (!type) {
    throw Error(ErrorCode::not_supported, fmt::format("a cast to {}", onnx_type_name(to)));
  }
  FloatTensor result = *operands[0];
  const ElementType from = result.type;
  result.type = *type;
  for (double& value : result.values.data) {
    if (*type == ElementType::boolean) value = value != 0;
    if (*type == ElementType::integer) {
      value = cast_to_integer(value, *onnx_integer_range(to), from);
    }
    if (to == static_cast<int>(OnnxType::float16)) value = rounded_to<Eigen::half>(value);
    if (to == static_cast<int>(OnnxType::bfloat16)) value = rounded_to<Eigen::bfloat16>(value);
  }
  return result;
}

// Quant(x, scale, zero_point, bit_width) of QONNX: (round(clip(x / scale + zero_point)) -
// zero_point) * scale.
FloatTensor quant(const FloatNode& node, const Operands& operands) {
  const FloatTensor& x = *operands[0];
  check_scale(*operands[1]);
  const auto [low, high] = range_of_bits(node, *operands[3]);
  const Rounding round = rounding_of(node, "ROUND");
  FloatTensor result = x;
  const Broadcast scale(operands[1]->values, x.values.shape);
  const Broadcast zero_point(operands[2]->values, x.values.shape);
  for (std::size_t i = 0; i < result.values.data.size(); ++i) {
    const double clipped = std::clamp(x.values.data[i] / scale[i] + zero_point[i], low, high);
    result.values.data[i] = (round(clipped) - zero_point[i]) * scale[i];
  }
  return result;
}

// Trunc of QONNX: integers on a step `scale` are brought to a step that is larger. Newer files give
// that step, older ones say how many bits less there are.
FloatTensor truncate(const FloatNode& node, const Operands& operands) {
  const FloatTensor& x = *operands[0];
  check_scale(*operands[1]);
  const FloatTensor out_scale = truncated_scale(operands);
  check_scale(out_scale);
  const auto [low, high] = range_of_bits(node, *operands.back());
  const Rounding round = rounding_of(node, "FLOOR");
  FloatTensor result = x;
  const Broadcast scale(operands[1]->values, x.values.shape);
  const Broadcast zero_point(operands[2]->values, x.values.shape);
  const Broadcast step(out_scale.values, x.values.shape);
  for (std::size_t i = 0; i < result.values.data.size(); ++i) {
    const double ratio = step[i] / scale[i];
    const double integer = std::nearbyint(x.values.data[i] / scale[i] + zero_point[i]);
    const double kept = std::clamp(round(integer / ratio), low, high);
    result.values.data[i] = (kept - zero_point[i] / ratio) * step[i];
  }
  return result;
}

FloatTensor quantize_linear(const FloatNode& node, const Operands& operands) {
  const Tensor<double>& x = operands[0]->values;
  check_scale(*operands[1]);
  const Broadcast scale(along_axis(node, *operands[1], x.shape), x.shape);
  const Broadcast zero_point(zero_point_of(node, operands, x.shape), x.shape);
  const auto low = static_cast<double>(integer_attribute(node, "minimum", 0));
  const auto high = static_cast<double>(integer_attribute(node, "maximum", 255));
  FloatTensor result{ElementType::integer, x};
  for (std::size_t i = 0; i < x.data.size(); ++i) {
    const double rounded = std::nearbyint(x.data[i] / scale[i]) + zero_point[i];
    result.values.data[i] = std::clamp(rounded, low, high);
  }
  return result;
}

FloatTensor dequantize_linear(const FloatNode& node, const Operands& operands) {
  const Tensor<double>& x = operands[0]->values;
  check_scale(*operands[1]);
  const Broadcast scale(along_axis(node, *operands[1], x.shape), x.shape);
  const Broadcast zero_point(zero_point_of(node, operands, x.shape), x.shape);
  FloatTensor result{ElementType::floating, x};
  for (std::size_t i = 0; i < x.data.size(); ++i) {
    result.values.data[i] = (x.data[i] - zero_point[i]) * scale[i];
  }
  return result;
}

}  // namespace torusml
