#include "quantization/batch_normalization.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "importer/operators.h"

namespace torusml {
namespace {

bool is_plain(const FloatNode& node, const char* type) {
  return !node.custom && node.domain.empty() && node.op_type == type;
}

const Tensor<double>* constant(const FloatGraph& graph, const std::string& name) {
  const auto found = graph.constants.find(name);
  return found == graph.constants.end() ? nullptr : &found->second.values;
}

std::int64_t readers(const FloatGraph& graph, const std::string& tensor) {
  std::int64_t count = std::ranges::count(graph.outputs, tensor);
  for (const FloatNode& node : graph.nodes) count += std::ranges::count(node.inputs, tensor);
  return count;
}

struct ScaleAndShift {
  std::vector<double> scale, shift;  // by channel
};

std::optional<ScaleAndShift> of_normalization(const FloatGraph& graph, const FloatNode& node) {
  if (integer_attribute(node, "training_mode", 0) != 0) return std::nullopt;
  std::vector<const Tensor<double>*> given;  // scale, bias, mean, variance
  for (std::size_t i = 1; i < 5; ++i) given.push_back(constant(graph, node.inputs.at(i)));
  if (std::ranges::find(given, nullptr) != given.end()) return std::nullopt;
  const double epsilon = number_attribute(node, "epsilon", 1e-5f);
  ScaleAndShift result;
  for (std::size_t c = 0; c < given[0]->data.size(); ++c) {
    const double scale = given[0]->data[c] / std::sqrt(given[3]->data[c] + epsilon);
    result.scale.push_back(scale);
    result.shift.push_back(given[1]->data[c] - scale * given[2]->data[c]);
  }
  return result;
}

// Output channels along the first axis of a Conv's weight, or of a Gemm's that is transposed.
Tensor<double> scaled(Tensor<double> weight, const std::vector<double>& scale, bool channel_first) {
  const std::size_t inner = weight.data.size() / scale.size();
  for (std::size_t i = 0; i < weight.data.size(); ++i)
    weight.data[i] *= scale[channel_first ? i / inner : i % scale.size()];
  return weight;
}

bool fold(FloatGraph& graph, FloatNode& linear, const FloatNode& normalization) {
  const bool is_conv = is_plain(linear, "Conv");
  if (!is_conv && !(is_plain(linear, "Gemm") && integer_attribute(linear, "transA", 0) == 0))
    return false;
  if (linear.outputs[0] != normalization.inputs[0] || readers(graph, linear.outputs[0]) != 1)
    return false;
  const Tensor<double>* weight = constant(graph, linear.inputs.at(1));
  const bool has_bias = linear.inputs.size() > 2 && !linear.inputs[2].empty();
  const Tensor<double>* bias = has_bias ? constant(graph, linear.inputs[2]) : nullptr;
  const std::optional<ScaleAndShift> by = of_normalization(graph, normalization);
  if (weight == nullptr || !by || (has_bias && bias == nullptr)) return false;
  const std::size_t channels = by->scale.size();
  if (has_bias && bias->data.size() != channels && bias->data.size() != 1) return false;
  const double beta = is_conv ? 1 : number_attribute(linear, "beta", 1);
  if (beta == 0) return false;
  Tensor<double> new_bias{{static_cast<std::int64_t>(channels)}, by->shift};
  for (std::size_t c = 0; c < channels; ++c) {
    if (has_bias) new_bias.data[c] += by->scale[c] * beta * bias->data[c % bias->data.size()];
    new_bias.data[c] /= beta;
  }
  const bool channel_first = is_conv || integer_attribute(linear, "transB", 0) != 0;
  const std::string name = linear.outputs[0];
  graph.constants[name + ".weight"] = {ElementType::floating,
                                       scaled(*weight, by->scale, channel_first)};
  graph.constants[name + ".bias"] = {ElementType::floating, std::move(new_bias)};
  linear.inputs = {linear.inputs[0], name + ".weight", name + ".bias"};
  for (const char* suffix : {".weight", ".bias"})
    graph.shapes[name + suffix] = graph.constants[name + suffix].values.shape;
  linear.outputs[0] = normalization.outputs[0];
  graph.shapes.erase(name);
  return true;
}

}  // namespace

void fold_batch_normalization(FloatGraph& graph) {
  for (std::size_t n = 0; n < graph.nodes.size();) {
    const auto folds = [&](FloatNode& linear) { return fold(graph, linear, graph.nodes[n]); };
    const bool is_folded =
        is_plain(graph.nodes[n], "BatchNormalization") && std::ranges::any_of(graph.nodes, folds);
    if (is_folded)
      graph.nodes.erase(graph.nodes.begin() + static_cast<std::ptrdiff_t>(n));
    else
      ++n;
  }
}

}  // namespace torusml
