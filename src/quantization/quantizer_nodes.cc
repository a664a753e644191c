#include "quantization/quantizer_nodes.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "torusml/error.h"

namespace torusml {
namespace {

bool is_quant(const FloatNode& node) { return node.op_type == "Quant"; }
bool is_dequantize(const FloatNode& node) { return node.op_type == "DequantizeLinear"; }

bool keeps_order(const FloatNode& node) {
  static const std::set<std::string> kTypes{"Reshape", "Flatten",   "Identity",
                                            "Squeeze", "Unsqueeze", "Dropout"};
  return !node.custom && kTypes.contains(node.op_type);
}

std::string where(const FloatNode& node) {
  return fmt::format("node '{}' ({})", node.name, node.op_type);
}

// A constant, or what constants make.
std::vector<double> constant(const FloatGraph& graph, const std::string& tensor,
                             const FloatNode& reader) {
  const auto found = graph.constants.find(tensor);
  if (found != graph.constants.end()) return found->second.values.data;
  throw Error(ErrorCode::not_supported,
              fmt::format("the quantizer's parameter '{}' is not a constant", tensor),
              where(reader));
}

std::int64_t integer(const FloatNode& node, const char* name, std::int64_t fallback) {
  const auto found = node.attributes.find(name);
  return found == node.attributes.end() ? fallback : std::get<std::int64_t>(found->second);
}

double one(const std::vector<double>& values, const FloatNode& node, const char* what) {
  const bool same = std::ranges::all_of(values, [&](double v) { return v == values[0]; });
  if (values.empty() || !same) {
    throw Error(ErrorCode::not_supported,
                fmt::format("an activation's quantizer has {} different {}", values.size(), what),
                where(node), "per-tensor quantizers for activations");
  }
  return values[0];
}

UniformQuantizer make(const FloatNode& node, double scale, double zero_point, double low,
                      double high) {
  QuantizationOptions options;
  options.is_qat = true;
  options.is_precomputed_qat = true;
  options.is_signed = low < 0;
  options.n_bits =
      static_cast<int>(std::ceil(std::log2(std::max(high, low < 0 ? -low - 1 : 0.0) + 1))) +
      (low < 0 ? 1 : 0);
  options.n_bits = std::max(options.n_bits, 1);
  const std::int64_t offset = options.is_signed ? std::int64_t{1} << (options.n_bits - 1) : 0;
  options.is_narrow = low != static_cast<double>(-offset);
  UniformQuantizer quantizer(options, {{scale}, {static_cast<std::int64_t>(zero_point)}, offset});
  if (static_cast<double>(quantizer.lowest()) != low ||
      static_cast<double>(quantizer.highest()) != high) {
    throw Error(ErrorCode::not_supported,
                fmt::format("a quantizer with integers from {} to {}", low, high), where(node));
  }
  return quantizer;
}

FoundQuantizer from_quant(const FloatGraph& graph, const FloatNode& node) {
  const auto rounding = node.attributes.find("rounding_mode");
  if (rounding != node.attributes.end() && std::get<std::string>(rounding->second) != "ROUND") {
    throw Error(ErrorCode::not_supported,
                fmt::format("rounding mode {}", std::get<std::string>(rounding->second)),
                where(node), "ROUND");
  }
  const double bits = one(constant(graph, node.inputs[3], node), node, "bit widths");
  if (!(bits >= 1 && bits <= 32)) {
    throw Error(ErrorCode::unsupported_bits,
                fmt::format("a quantizer has {} bits; 1 to 32 are supported", bits), where(node));
  }
  const bool is_signed = integer(node, "signed", 1) != 0;
  const auto narrow = static_cast<double>(integer(node, "narrow", 0) != 0);
  const double half = std::ldexp(1.0, static_cast<int>(bits) - 1);
  return {make(node, one(constant(graph, node.inputs[1], node), node, "scales"),
               one(constant(graph, node.inputs[2], node), node, "zero points"),
               is_signed ? narrow - half : 0, is_signed ? half - 1 : 2 * half - 1 - narrow),
          node.inputs[0]};
}

FoundQuantizer from_dequantize(const FloatGraph& graph, const FloatNode& node) {
  const FloatNode* inner = producer(graph, node.inputs[0]);
  double low = -1e18, high = 1e18;
  if (inner != nullptr && inner->op_type == "Clip") {
    if (inner->inputs.size() > 1 && !inner->inputs[1].empty())
      low = one(constant(graph, inner->inputs[1], *inner), *inner, "bounds");
    if (inner->inputs.size() > 2 && !inner->inputs[2].empty())
      high = one(constant(graph, inner->inputs[2], *inner), *inner, "bounds");
    inner = producer(graph, inner->inputs[0]);
  }
  if (inner == nullptr || inner->op_type != "QuantizeLinear") {
    throw Error(ErrorCode::missing_quantizer, "DequantizeLinear does not follow QuantizeLinear",
                where(node));
  }
  low = std::max(low, static_cast<double>(integer(*inner, "minimum", 0)));
  high = std::min(high, static_cast<double>(integer(*inner, "maximum", 255)));
  const double zero_point = node.inputs.size() > 2 && !node.inputs[2].empty()
                                ? one(constant(graph, node.inputs[2], node), node, "zero points")
                                : 0;
  return {
      make(node, one(constant(graph, node.inputs[1], node), node, "scales"), zero_point, low, high),
      inner->inputs[0]};
}

}  // namespace

std::optional<FoundQuantizer> find_quantizer(const FloatGraph& graph, const std::string& tensor) {
  const FloatNode* node = producer(graph, tensor);
  while (node != nullptr && keeps_order(*node)) node = producer(graph, node->inputs[0]);
  if (node == nullptr) return std::nullopt;
  if (is_quant(*node)) return from_quant(graph, *node);
  if (is_dequantize(*node)) return from_dequantize(graph, *node);
  return std::nullopt;
}

std::vector<double> weight_scales(const FloatGraph& graph, const std::string& tensor) {
  const FloatNode* node = producer(graph, tensor);
  while (node != nullptr && (keeps_order(*node) || node->op_type == "Transpose"))
    node = producer(graph, node->inputs[0]);
  if (node == nullptr || (!is_quant(*node) && !is_dequantize(*node))) return {};
  return constant(graph, node->inputs[1], *node);
}

bool has_quantizers(const FloatGraph& graph) {
  return std::ranges::any_of(
      graph.nodes, [](const FloatNode& node) { return is_quant(node) || is_dequantize(node); });
}

}  // namespace torusml
