#include "quantization/own_quantizers.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <unordered_set>

#include "importer/broadcast.h"
#include "importer/operator_functions.h"
#include "torusml/error.h"

namespace torusml {
namespace {

bool is_quant(const FloatNode& node) { return !node.custom && node.op_type == "Quant"; }
bool is_trunc(const FloatNode& node) { return !node.custom && node.op_type == "Trunc"; }
bool is_dequantize(const FloatNode& node) {
  return !node.custom && node.op_type == "DequantizeLinear";
}

double one(const Network& network, const FloatNode& node, std::size_t input, const char* what) {
  const std::vector<double>& values = network.constant(node.inputs[input], node).values.data;
  if (values.empty() || std::ranges::any_of(values, [&](double v) { return v != values[0]; })) {
    throw Error(ErrorCode::not_supported,
                fmt::format("an activation's quantizer has {} different {}", values.size(), what),
                describe(node), "per-tensor quantizers for activations");
  }
  return values[0];
}

std::int64_t whole(double value, const FloatNode& node, const char* what) {
  if (value != std::nearbyint(value) || std::abs(value) > 0x1p53) {
    throw Error(ErrorCode::not_supported, fmt::format("a quantizer has {} {}", what, value),
                describe(node), "whole numbers");
  }
  return static_cast<std::int64_t>(value);
}

// The narrowest range of QuantizationOptions that holds the bounds.
UniformQuantizer make(const FloatNode& node, double scale, double zero_point, IntegerRange bounds) {
  if (!(bounds.minimum <= bounds.maximum)) {
    throw Error(
        ErrorCode::invalid_model,
        fmt::format("a quantizer has integers from {} to {}", bounds.minimum, bounds.maximum),
        describe(node));
  }
  QuantizationOptions options;
  options.is_qat = options.is_precomputed_qat = true;
  options.is_signed = bounds.minimum < 0;
  const auto fits = [&](int bits) {
    const double offset = options.is_signed ? std::ldexp(1.0, bits - 1) : 0;
    return -offset <= bounds.minimum && bounds.maximum <= std::ldexp(1.0, bits) - 1 - offset;
  };
  options.n_bits = 1;
  while (options.n_bits <= 32 && !fits(options.n_bits)) ++options.n_bits;
  if (options.n_bits > 32) {
    throw Error(ErrorCode::unsupported_bits,
                fmt::format("a quantizer has integers from {} to {}, more than 32 bits",
                            bounds.minimum, bounds.maximum),
                describe(node), "1 to 32 bits");
  }
  const std::int64_t offset = options.is_signed ? std::int64_t{1} << (options.n_bits - 1) : 0;
  options.is_narrow = options.is_signed && bounds.minimum == static_cast<double>(1 - offset);
  return {options, {{scale}, {whole(zero_point, node, "zero point")}, offset}};
}

IntegerRange bounds_of_bits(const Network& network, const FloatNode& node, std::size_t input) {
  return range_of_bits(node, one(network, node, input, "bit widths"), describe(node));
}

OwnQuantizer from_quant(const Network& network, const FloatNode& node) {
  std::string rounding = string_attribute(node, "rounding_mode", "ROUND");
  std::ranges::transform(rounding, rounding.begin(),
                         [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  if (rounding != "ROUND" && rounding != "HALF_EVEN") {
    throw Error(ErrorCode::not_supported, fmt::format("rounding mode {}", rounding), describe(node),
                "ROUND");
  }
  const IntegerRange bounds = bounds_of_bits(network, node, 3);
  return {make(node, one(network, node, 1, "scales"), one(network, node, 2, "zero points"), bounds),
          node.inputs[0]};
}

// The integers that a Trunc makes of others; it may round as it likes, since what it reads is
// rounded already.
OwnQuantizer from_trunc(const Network& network, const FloatNode& node) {
  Operands operands{nullptr};
  for (std::size_t i = 1; i < node.inputs.size(); ++i)
    operands.push_back(&network.constant(node.inputs[i], node));
  const std::vector<double> scales = truncated_scale(operands).values.data;
  const double scale = one(network, node, 1, "scales"),
               zero_point = one(network, node, 2, "zero points");
  if (zero_point != 0) {
    throw Error(ErrorCode::not_supported, fmt::format("a Trunc with zero point {}", zero_point),
                describe(node), "a quantizer without zero point before it");
  }
  if (std::ranges::any_of(scales, [&](double s) { return s != scales[0]; }) ||
      !(scales[0] >= scale)) {
    throw Error(ErrorCode::not_supported,
                fmt::format("a Trunc from step {} to step {}", scale, scales[0]), describe(node),
                "one step for all channels, larger than before");
  }
  const IntegerRange bounds = bounds_of_bits(network, node, node.inputs.size() - 1);
  return {make(node, scales[0], 0, bounds), node.inputs[0], false};
}

OwnQuantizer from_dequantize(const Network& network, const FloatNode& node) {
  const FloatNode* inner = network.producer(node.inputs[0]);
  IntegerRange bounds{-0x1p60, 0x1p60};
  while (inner != nullptr && (inner->op_type == "Clip" || keeps_values(*inner))) {
    if (inner->op_type == "Clip") {
      if (inner->inputs.size() > 1 && !inner->inputs[1].empty())
        bounds.minimum = std::max(bounds.minimum, one(network, *inner, 1, "lower bounds"));
      if (inner->inputs.size() > 2 && !inner->inputs[2].empty())
        bounds.maximum = std::min(bounds.maximum, one(network, *inner, 2, "upper bounds"));
    }
    inner = network.producer(inner->inputs[0]);
  }
  if (inner == nullptr || inner->op_type != "QuantizeLinear") {
    throw Error(ErrorCode::missing_quantizer, "this operator does not follow a QuantizeLinear",
                describe(node), "QuantizeLinear, Clip, DequantizeLinear");
  }
  bounds.minimum =
      std::max(bounds.minimum, static_cast<double>(integer_attribute(*inner, "minimum", 0)));
  bounds.maximum =
      std::min(bounds.maximum, static_cast<double>(integer_attribute(*inner, "maximum", 255)));
  const bool has_zero_point = node.inputs.size() > 2 && !node.inputs[2].empty();
  const double zero_point = has_zero_point ? one(network, node, 2, "zero points") : 0;
  return {make(node, one(network, node, 1, "scales"), zero_point, bounds), inner->inputs[0]};
}

// The scale of every element of what a quantizer makes.
Tensor<double> scales_of(const Network& network, const FloatNode& quantizer) {
  const Shape& shape = network.graph().shapes.at(quantizer.outputs[0]);
  Tensor<double> scale = network.constant(quantizer.inputs[1], quantizer).values;
  if (scale.data.size() == 1) scale.shape = {};
  if (is_dequantize(quantizer) && scale.data.size() > 1) {
    const auto rank = static_cast<std::int64_t>(shape.size());
    const std::int64_t axis = normalized_axis(integer_attribute(quantizer, "axis", 1), rank);
    if (scale.shape.size() != 1) {
      throw Error(ErrorCode::not_supported,
                  fmt::format("blocked quantization (a scale of shape {})", to_string(scale.shape)),
                  describe(quantizer));
    }
    scale.shape.resize(static_cast<std::size_t>(rank - axis), 1);
  }
  return {shape, broadcast_to(scale, shape)};
}

// The weight's scales: those of its quantizer, moved as the weight is moved
// behind it.
std::optional<Tensor<double>> weight_scales(const Network& network, const std::string& tensor) {
  std::vector<const FloatNode*> moves;
  const FloatNode* node = network.producer(tensor);
  while (node != nullptr && (keeps_values(*node) || node->op_type == "Transpose")) {
    moves.push_back(node);
    node = network.producer(node->inputs[0]);
  }
  if (node == nullptr || (!is_quant(*node) && !is_dequantize(*node))) return std::nullopt;
  FloatTensor scales{ElementType::floating, scales_of(network, *node)};
  std::ranges::reverse(moves);
  for (const FloatNode* move : moves) {
    std::vector<const FloatTensor*> operands{&scales};
    for (std::size_t i = 1; i < move->inputs.size(); ++i) {
      operands.push_back(move->inputs[i].empty() ? nullptr
                                                 : &network.constant(move->inputs[i], *move));
    }
    FloatTensor moved = std::move(evaluate_node(*move, operands).front());
    scales = std::move(moved);
  }
  return std::move(scales.values);
}

// The largest step of which all values are multiples, but for float noise; 0 if
// there is none.
double common_step(const std::vector<double>& values, std::int64_t max_integer) {
  std::unordered_set<float> distinct;
  double largest = 0;
  for (double value : values) {
    if (value == 0) continue;
    largest = std::max(largest, std::abs(value));
    distinct.insert(static_cast<float>(std::abs(value)));
    if (static_cast<std::int64_t>(distinct.size()) > 4 * max_integer) return 0;
  }
  const double noise = 2e-6 * largest;
  double step = largest;
  for (float value : distinct) {
    double a = std::max<double>(value, step), b = std::min<double>(value, step);
    while (b > noise) {  // Euclid
      const double rest = std::abs(std::remainder(a, b));
      a = b;
      b = rest;
    }
    step = a;
    if (step <= 4 * noise) return 0;
  }
  return largest / std::nearbyint(largest / step);
}

}  // namespace

std::optional<OwnQuantizer> own_quantizer(const Network& network, const std::string& tensor) {
  const FloatNode* node = network.producer(tensor);
  while (node != nullptr && keeps_values(*node)) node = network.producer(node->inputs[0]);
  if (node == nullptr) return std::nullopt;
  if (is_quant(*node)) return from_quant(network, *node);
  if (is_trunc(*node)) return from_trunc(network, *node);
  if (is_dequantize(*node)) return from_dequantize(network, *node);
  return std::nullopt;
}

std::optional<UniformQuantizer> grid_quantizer(const std::vector<double>& values, int bits) {
  const auto [low, high] = std::ranges::minmax(values);
  QuantizationOptions options;
  options.n_bits = bits;
  options.is_signed = low < 0;
  options.is_qat = true;
  const std::int64_t offset = options.is_signed ? std::int64_t{1} << (bits - 1) : 0;
  if (low == 0 && high == 0) return UniformQuantizer{options, {{1.0}, {0}, offset}};
  const double step = common_step(values, std::int64_t{1} << bits);
  if (step == 0) return std::nullopt;
  UniformQuantizer quantizer{options, {{step}, {0}, offset}};
  for (double value : values) {
    const double integer = value / step;
    if (std::abs(integer - std::nearbyint(integer)) > 0.02) return std::nullopt;
  }
  if (quantizer.count_clipped(values) != 0) return std::nullopt;
  return quantizer;
}

IntegerWeight own_weight(const Network& network, const FloatNode& reader, const std::string& tensor,
                         int bits) {
  const Tensor<double>& weight = network.constant(tensor, reader).values;
  std::optional<Tensor<double>> scales = weight_scales(network, tensor);
  if (!scales) {
    const std::optional<UniformQuantizer> grid = grid_quantizer(weight.data, bits);
    if (!grid) {
      throw Error(ErrorCode::missing_quantizer,
                  fmt::format("weight '{}' has no quantizer, and its values "
                              "are not multiples of "
                              "one step that fit into {} bits",
                              tensor, bits),
                  describe(reader),
                  "a layer with quantized weights (QuantLinear, or torusml.torch.to_qat), or more "
                  "bits for op_weights");
    }
    const double step = grid->parameters().scale[0];
    scales = Tensor<double>{weight.shape, std::vector<double>(weight.data.size(), step)};
  }
  IntegerWeight result{weight, *std::move(scales)};
  for (std::size_t i = 0; i < weight.data.size(); ++i) {
    const double integer = weight.data[i] / result.scales.data[i];
    result.integers.data[i] = std::nearbyint(integer);
    if (std::abs(integer - result.integers.data[i]) > 0.02) {
      throw Error(ErrorCode::not_supported,
                  fmt::format("element {} of weight '{}' is {} steps of its "
                              "quantizer, not a whole "
                              "number",
                              i, tensor, integer),
                  describe(reader), "a quantizer with a whole zero point");
    }
  }
  return result;
}

bool has_quantizers(const FloatGraph& graph) {
  return std::ranges::any_of(
      graph.nodes, [](const FloatNode& node) { return is_quant(node) || is_dequantize(node); });
}

}  // namespace torusml
