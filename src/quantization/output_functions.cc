#include "quantization/output_functions.h"

#include <algorithm>
#include <cmath>

#include "torusml/error.h"

namespace torusml {
namespace {

constexpr double kMaxSlopeRatio = 1 << 20;
constexpr std::int64_t kProbes = 1025;

std::optional<AffineFunction> if_usable(AffineFunction function) {
  double least = HUGE_VAL, largest = 0;
  for (double slope : function.slope) {
    if (!std::isfinite(slope)) return std::nullopt;
    least = std::min(least, std::abs(slope));
    largest = std::max(largest, std::abs(slope));
  }
  if (least == 0 || largest > kMaxSlopeRatio * least) return std::nullopt;
  return function;
}

// All accumulators lie within, whatever the operands are.
Interval accumulator_bounds(const QuantizedLayer& layer) {
  Circuit circuit;
  Linear linear;
  linear.bias = layer.integer_bias;
  const auto value_of = [&](std::int64_t elements, Interval interval) {
    circuit.values.push_back({{elements}, interval});
    return static_cast<ValueId>(circuit.values.size() - 1);
  };
  for (const QuantizedOperand& operand : layer.operands) {
    const auto& weight = std::get<SparseWeight>(operand.weight);
    const ValueId x =
        value_of(weight.columns, {operand.quantizer.lowest(), operand.quantizer.highest()});
    circuit.nodes.push_back({"", Input{x}});
    linear.terms.push_back({x, weight});
  }
  linear.result = value_of(number_of_elements(layer.shape), {});
  const ValueId result = linear.result;
  circuit.nodes.push_back({layer.name, std::move(linear)});
  return guaranteed_intervals(circuit)[result];
}

// The tail of a user's operator is not known; it is affine if it is so on many
// points of all that it may see.
std::optional<AffineFunction> function_of_custom(const Network& network,
                                                 const QuantizedLayer& layer,
                                                 const std::string& output) {
  const Interval bounds = accumulator_bounds(layer);
  if (bounds.size() < 3) return std::nullopt;
  const std::int64_t count =
      std::min<std::int64_t>(kProbes, static_cast<std::int64_t>(bounds.size()));
  const auto elements = static_cast<std::size_t>(number_of_elements(layer.shape));
  Tensor<double> probes{layer.shape, {}};
  probes.shape[0] = count;
  std::vector<double> points;
  for (std::int64_t i = 0; i < count; ++i) {
    const double share = static_cast<double>(i) / static_cast<double>(count - 1);
    points.push_back(std::nearbyint(static_cast<double>(bounds.lower) +
                                    share * static_cast<double>(bounds.size() - 1)));
    probes.data.insert(probes.data.end(), elements, points.back());
  }
  std::vector<double> y;
  try {
    const FloatTensor root = layer_output(layer, probes, network.graph().shapes.at(layer.output));
    y = network.evaluate_from_root(output, root).values.data;
  } catch (const Error& error) {
    if (error.code() != ErrorCode::non_finite_value) throw;
    return std::nullopt;
  }
  AffineFunction function;
  const double width = points.back() - points.front();
  for (std::size_t e = 0; e < elements; ++e) {
    const double first = y[e], last = y[y.size() - elements + e];
    const double slope = (last - first) / width, offset = first - slope * points.front();
    const double tolerance = 1e-9 * (std::abs(first) + std::abs(last) + std::abs(slope));
    for (std::size_t i = 0; i < points.size(); ++i) {
      if (!(std::abs(y[i * elements + e] - (slope * points[i] + offset)) <= tolerance))
        return std::nullopt;
    }
    function.slope.push_back(slope);
    function.offset.push_back(offset);
  }
  return if_usable(std::move(function));
}

}  // namespace

std::optional<AffineFunction> function_of_layer(const Network& network, const QuantizedLayer& layer,
                                                const std::string& output) {
  if (!network.is_affine(output)) return std::nullopt;
  if (layer.custom) return function_of_custom(network, layer, output);
  AffineFunction function = network.affine(output);
  for (std::size_t e = 0; e < function.slope.size(); ++e) {
    const double scale = layer.scale[e % layer.scale.size()];
    const auto zero = static_cast<double>(layer.zero[e % layer.zero.size()]);
    const double bias = layer.bias[e % layer.bias.size()];
    function.offset[e] += function.slope[e] * (bias - scale * zero);
    function.slope[e] *= scale;
  }
  return if_usable(std::move(function));
}

std::optional<AffineFunction> function_of_input(const Network& network,
                                                const UniformQuantizer& quantizer,
                                                const std::string& output) {
  if (!network.is_affine(output)) return std::nullopt;
  AffineFunction function = network.affine(output);
  const double scale = quantizer.parameters().scale[0];
  const auto zero = static_cast<double>(quantizer.parameters().zero_point[0]);
  for (std::size_t e = 0; e < function.slope.size(); ++e) {
    function.offset[e] -= function.slope[e] * scale * zero;
    function.slope[e] *= scale;
  }
  return if_usable(std::move(function));
}

}  // namespace torusml
