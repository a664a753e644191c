#include "quantization/fitted_walk.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "quantization/layer_quantization.h"
#include "quantization/step_thresholds.h"

namespace torusml {
namespace {

constexpr int kMostTunedBits = 6;  // of activations: finer ones have too many thresholds
constexpr std::int64_t kMostParameters = 4096;  // of a channel that is fitted
// Sums to fit (samples times places of a convolution) for each weight of a channel, at least: with
// fewer a fit follows the samples' accidents.
constexpr std::int64_t kSumsPerWeight = 4;
constexpr double kMargin = 1.1;  // of calibrated widths: 5 % on each side

Eigen::ArrayXXf to_array(const std::vector<double>& values, Eigen::Index samples) {
  const Eigen::Index elements = static_cast<Eigen::Index>(values.size()) / samples;
  return Eigen::Map<const RowMatrix>(values.data(), samples, elements).cast<float>();
}

}  // namespace

std::vector<QuantizedGraph> FittedWalk::run_best(const OutputLoss& loss,
                                                 const ProgressCallback& progress) {
  run_layers(progress);
  add_outputs();
  std::vector<QuantizedGraph> found{result_};
  if (tune(loss, progress)) {
    result_.outputs.clear();
    result_.inputs.clear();
    add_outputs();
    found.push_back(std::move(result_));
  }
  for (QuantizedGraph& graph : found) graph.graph = graph_;
  return found;
}

std::optional<QuantizedLayer> FittedWalk::try_fit(LinearLayer& layer) {
  if (layer.custom || layer.terms.size() != 1) return std::nullopt;
  FloatTerm& term = layer.terms[0];
  if (rules_.more_bits.contains(term.tensor)) return std::nullopt;
  const Shape& shape = graph_.shapes.at(layer.output);
  std::optional<TiedWeights> tied = tie_weights(term.map, shape);
  const bool is_output = leaves_circuit(layer.output);
  if (!tied || tied->parameters > kMostParameters || rules_.contains(term.tensor) ||
      (is_output && tied->patterns.size() > 1))
    return std::nullopt;
  const auto samples = calibration_[0].shape[0];
  if (samples * tied->positions < kSumsPerWeight * tied->parameters) return std::nullopt;
  std::vector<double> targets = float_values(layer.output);
  for (std::size_t i = 0; i < targets.size(); ++i) targets[i] -= layer.bias[i % layer.bias.size()];
  std::vector<double> values = values_at(term.tensor);
  UniformQuantizer quantizer;
  if (is_read_as_input(term.tensor)) {
    quantizer = **input_quantizer(term.tensor);
  } else {
    const std::string& root = network_.root(term.tensor);
    OperandChoice choice =
        choose_operand(*tied, values, graph_.shapes.at(root), targets, bits_of(layer).inputs,
                       can_be_equalized(term), request_.seed);
    quantizer = std::move(choice.quantizer);
    if (std::ranges::any_of(choice.divisor, [](double d) { return d != 1; })) {
      term.map.scale_columns(choice.divisor);
      tied = tie_weights(term.map, shape);
      for (std::size_t i = 0; i < values.size(); ++i)
        values[i] /= choice.divisor[i % choice.divisor.size()];
      divide_root(root, std::move(choice.divisor));
    }
  }
  const std::vector<std::int64_t> q = quantizer.quantize(values);
  std::vector<double> integers(q.begin(), q.end());
  for (double& v : integers) v -= static_cast<double>(quantizer.parameters().zero_point[0]);
  FittedLayer numbers = fit_layer(*tied, integers, quantizer.parameters().scale[0], targets,
                                  {.bits = bits_of(layer).weights,
                                   .has_one_scale = is_output,
                                   .most_width = is_output ? 0 : most_width()},
                                  request_.seed);
  Fitted& fitted = fitted_[layer.output] = {
      &layer, *std::move(tied), std::move(quantizer), std::move(numbers), {}};
  QuantizedLayer quantized = built(fitted);
  if (is_read_later(layer.output)) root_values_[layer.output] = compute(quantized, {values});
  return quantized;
}

QuantizedLayer FittedWalk::built(const Fitted& fitted) const {
  return fitted_layer(*fitted.layer, graph_.shapes.at(fitted.layer->output), fitted.quantizer,
                      fitted.tied.entries(fitted.numbers.integers),
                      fitted.tied.by_element(fitted.numbers.scale),
                      fitted.tied.by_element(fitted.numbers.shift));
}

bool FittedWalk::can_be_equalized(const FloatTerm& term) const {
  const std::string& root = network_.root(term.tensor);
  const auto fitted = fitted_.find(root);
  if (fitted == fitted_.end() || term.map.blocks != 1) return false;
  const TiedWeights& tied = fitted->second.tied;
  const Shape& shape = graph_.shapes.at(root);
  const bool has_channels = shape.size() > 1 && shape[1] == tied.channels &&
                            (tied.positions == 1 || tied.element[1] == 1);
  const bool feeds_output = std::ranges::any_of(
      graph_.outputs, [&](const std::string& output) { return network_.root(output) == root; });
  if (!has_channels || feeds_output || readers_of(root).size() != 1) return false;
  const ElementwiseTail tail = elementwise_tail(graph_, term.tensor, network_.roots());
  return std::ranges::all_of(tail.nodes, [](const FloatNode* node) {
    return keeps_values(*node) || (node->domain.empty() && !node->custom &&
                                   (node->op_type == "Relu" || node->op_type == "LeakyRelu"));
  });
}

void FittedWalk::divide_root(const std::string& root, std::vector<double> divisor) {
  Fitted& fitted = fitted_.at(root);
  const auto positions = static_cast<std::size_t>(fitted.tied.positions);
  for (std::size_t c = 0; c < fitted.numbers.scale.size(); ++c) {
    const double own = divisor[static_cast<std::size_t>(fitted.tied.element[c * positions])];
    fitted.numbers.scale[c] /= own;
    fitted.numbers.shift[c] /= own;
  }
  for (std::size_t e = 0; e < divisor.size(); ++e) fitted.layer->bias[e] /= divisor[e];
  std::vector<double>& values = root_values_.at(root).values.data;
  for (std::size_t i = 0; i < values.size(); ++i) values[i] /= divisor[i % divisor.size()];
  fitted.divisor = std::move(divisor);
  *std::ranges::find(result_.layers, root, &QuantizedLayer::output) = built(fitted);
}

bool FittedWalk::tune(const OutputLoss& loss, const ProgressCallback& progress) {
  if (layers_.empty() || !request_.layers.empty() || bits_.op_inputs > kMostTunedBits ||
      graph_.inputs.size() != 1 || graph_.outputs.size() != 1 || fitted_.size() != layers_.size())
    return false;
  std::vector<TunedStage> stages;
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    const std::string& before = i == 0 ? graph_.inputs[0].name : layers_[i - 1].output;
    if (network_.root(layers_[i].terms[0].tensor) != before) return false;
    std::optional<TunedStage> made = stage(fitted_.at(layers_[i].output));
    if (!made) return false;
    if (i + 1 < layers_.size()) {
      if (!add_thresholds(*made, layers_[i].output, layers_[i + 1])) return false;
    } else {
      if (network_.root(graph_.outputs[0]) != layers_[i].output ||
          !leaves_circuit(layers_[i].output))
        return false;
      AffineFunction function = network_.affine(graph_.outputs[0]);
      made->slope = std::move(function.slope);
      made->offset = std::move(function.offset);
    }
    stages.push_back(*std::move(made));
  }
  const Fitted& first = fitted_.at(layers_[0].output);
  const std::vector<std::int64_t> q =
      first.quantizer.quantize(values_at(layers_[0].terms[0].tensor));
  std::vector<double> inputs(q.begin(), q.end());
  for (double& v : inputs) v -= static_cast<double>(first.quantizer.parameters().zero_point[0]);
  fine_tune(stages, to_array(inputs, loss.samples()), loss,
            {.bits = bits_.op_weights, .seed = request_.seed, .most_width = most_width()},
            progress);
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    Fitted& fitted = fitted_.at(layers_[i].output);
    fitted.numbers = {std::move(stages[i].integers), std::move(stages[i].scale),
                      std::move(stages[i].shift)};
    result_.layers[i] = built(fitted);
  }
  return true;
}

std::optional<TunedStage> FittedWalk::stage(const Fitted& fitted) {
  TunedStage stage;
  stage.tied = fitted.tied;
  stage.integers = fitted.numbers.integers;
  stage.scale = fitted.numbers.scale;
  stage.shift = fitted.numbers.shift;
  stage.bias = fitted.layer->bias;
  std::vector<double> targets = float_values(fitted.layer->output);
  for (std::size_t i = 0; i < targets.size() && !fitted.divisor.empty(); ++i)
    targets[i] /= fitted.divisor[i % fitted.divisor.size()];
  stage.targets = to_array(targets, calibration_[0].shape[0]);
  return stage;
}

bool FittedWalk::add_thresholds(TunedStage& stage, const std::string& root,
                                const LinearLayer& next) {
  const UniformQuantizer& quantizer = fitted_.at(next.output).quantizer;
  const FloatTensor& values = root_values_.at(root);
  std::optional<Eigen::ArrayXXf> found =
      step_thresholds(values, quantizer, [&](const FloatTensor& y) {
        return network_.evaluate_from_root(next.terms[0].tensor, y).values.data;
      });
  if (!found) return false;
  stage.thresholds = *std::move(found);
  stage.lowest = static_cast<float>(quantizer.lowest() - quantizer.parameters().zero_point[0]);
  return true;
}

double FittedWalk::most_width() const {
  const int bits = request_.accumulator_bits;
  return bits == 0 ? 0 : std::floor((std::ldexp(1.0, bits) - 3) / kMargin);
}

}  // namespace torusml
