#include "quantization/quantized_graph.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "importer/custom_operator.h"

namespace torusml {
namespace {

FloatTensor filled(const Shape& shape, double value) {
  return {ElementType::floating,
          {shape, std::vector<double>(static_cast<std::size_t>(number_of_elements(shape)), value)}};
}

}  // namespace

QuantizationBits QuantizationBits::uniform(int bits) {
  return {bits, bits, std::max(5, bits), std::max(5, bits)};
}

std::set<std::string> QuantizedGraph::roots() const {
  std::set<std::string> names;
  for (const GraphInput& input : graph.inputs) names.insert(input.name);
  for (const QuantizedLayer& layer : layers) names.insert(layer.output);
  return names;
}

FloatTensor layer_output(const QuantizedLayer& layer, const Tensor<double>& accumulators) {
  if (layer.custom) {
    std::vector<InputQuantization> inputs;
    for (const QuantizedOperand& operand : layer.operands) {
      const UniformQuantizer& q = operand.quantizer;
      inputs.push_back({q.parameters().scale, q.parameters().zero_point, q.options().n_bits,
                        q.options().is_signed});
    }
    return layer.custom->apply_tail(accumulators, inputs);
  }
  FloatTensor result{ElementType::floating, accumulators};
  for (std::size_t i = 0; i < result.values.data.size(); ++i) {
    const auto zero = static_cast<double>(layer.zero[i % layer.zero.size()]);
    result.values.data[i] = layer.scale[i % layer.scale.size()] * (result.values.data[i] - zero) +
                            layer.bias[i % layer.bias.size()];
  }
  return result;
}

std::optional<AffineTail> affine_tail(const FloatGraph& graph, const ElementwiseTail& tail) {
  static const std::set<std::string> kAffine{
      "Add",     "Sub",     "Mul",     "BatchNormalization", "Neg", "Identity", "Dropout",
      "Reshape", "Flatten", "Squeeze", "Unsqueeze"};
  for (const FloatNode* node : tail.nodes) {
    const bool divides_by_constant =
        node->op_type == "Div" && graph.constants.contains(node->inputs[1]);
    if (node->custom || (!kAffine.contains(node->op_type) && !divides_by_constant))
      return std::nullopt;
    // x * x is no affine function: at most one operand may depend on the input.
    const auto dependent = std::ranges::count_if(node->inputs, [&](const std::string& in) {
      return !in.empty() && depends_on_input(graph, in);
    });
    if (node->op_type == "Mul" && dependent != 1) return std::nullopt;
  }
  const Shape& shape = graph.shapes.at(tail.root);
  const std::vector<double> at_zero = evaluate_tail(graph, tail, filled(shape, 0)).values.data;
  std::vector<double> slope = evaluate_tail(graph, tail, filled(shape, 1)).values.data;
  for (std::size_t i = 0; i < slope.size(); ++i) slope[i] -= at_zero[i];
  return AffineTail{std::move(slope), at_zero};
}

}  // namespace torusml
