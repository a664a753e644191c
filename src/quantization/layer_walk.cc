#include "quantization/layer_walk.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <utility>

#include "base/progress.h"
#include "quantization/activation_calibration.h"
#include "quantization/decompositions.h"
#include "quantization/layer_quantization.h"
#include "quantization/max_pools.h"
#include "quantization/output_functions.h"
#include "quantization/own_quantizers.h"
#include "torusml/error.h"

namespace torusml {
namespace {

UniformQuantizer fit(const std::vector<double>& values, int bits) {
  return UniformQuantizer::fit({.n_bits = bits, .is_signed = min_max_stats(values).rmin < 0},
                               values);
}

// Whole numbers on a step of 1: their bias is a part of them.
void take_in_bias(QuantizedLayer& layer) {
  std::vector<std::int64_t>& integers = layer.integer_bias;
  integers.resize(static_cast<std::size_t>(number_of_elements(layer.shape)), 0);
  for (std::size_t e = 0; e < integers.size(); ++e)
    integers[e] += std::llround(layer.bias[e % layer.bias.size()]);
  if (std::ranges::all_of(integers, [](std::int64_t bias) { return bias == 0; })) integers.clear();
  layer.bias = {0.0};
}

// The graph of what encrypted data can do.
StepRules rewrite(FloatGraph& graph, const std::vector<Tensor<double>>& calibration, int bits) {
  StepRules rules = decompose(graph, calibration, bits);
  expand_max_pools(graph, rules);
  return rules;
}

}  // namespace

LayerWalk::LayerWalk(FloatGraph graph, const std::vector<Tensor<double>>& calibration,
                     const QuantizationRequest& request)
    : graph_(std::move(graph)),
      rules_(rewrite(graph_, calibration, request.bits.op_inputs)),
      network_(graph_),
      calibration_(calibration),
      request_(request),
      bits_(request.bits),
      mode_(!request.import_qat      ? Mode::after_training
            : has_quantizers(graph_) ? Mode::own_nodes
                                     : Mode::own_grid) {}

QuantizedGraph LayerWalk::run() {
  run_layers({});
  add_outputs();
  result_.graph = std::move(graph_);
  return std::move(result_);
}

void LayerWalk::run_layers(const ProgressCallback& progress) {
  CutOptions options;
  options.fold = mode_ == Mode::after_training;
  options.rules = rules_;
  if (!options.fold) {
    options.read_weight = [&](const FloatNode& reader, const std::string& weight) {
      return own_weight(network_, reader, weight, bits_.op_weights);
    };
  }
  layers_ = linear_layers(network_, options);
  if (mode_ == Mode::own_nodes) check_own_quantizers();
  quantize_inputs();
  ProgressCounter counter(progress, layers_.size());
  for (LinearLayer& layer : layers_) {
    result_.layers.push_back(quantize(layer));
    counter.advance();
  }
}

void LayerWalk::quantize_inputs() {
  input_quantizers_.resize(graph_.inputs.size());
  for (std::size_t i = 0; i < graph_.inputs.size(); ++i) {
    const std::string& name = graph_.inputs[i].name;
    if (graph_.inputs[i].rows != 0) {
      input_quantizers_[i] = index_quantizer(graph_.inputs[i].rows);
      continue;
    }
    const std::vector<double>& data = calibration_[i].data;
    const std::vector<Reader> readers = readers_of(name);
    const bool feeds_output = std::ranges::any_of(graph_.outputs, [&](const std::string& output) {
      return network_.root(output) == name && !network_.is_affine(output);
    });
    const auto is_plain = [&](const Reader& r) { return network_.is_plain(r.tensor); };
    const bool all_plain =
        !readers.empty() && !feeds_output && std::ranges::all_of(readers, is_plain);
    if (mode_ == Mode::own_nodes) {
      if (!feeds_output) input_quantizers_[i] = shared_own_quantizer(readers);
    } else if (all_plain && mode_ == Mode::own_grid) {
      input_quantizers_[i] = grid_or_throw(name, data, readers[0].layer->name);
    } else if (all_plain) {
      const auto in_sum = [&](const Reader& r) { return chooses_step(*r.layer); };
      if (std::ranges::none_of(readers, in_sum))
        input_quantizers_[i] =
            fit_activation(data, is_compatible() ? bits_.op_inputs : bits_.model_inputs);
      else if (read_the_same(readers))
        continue;  // waits for the sum
    }
    if (!input_quantizers_[i]) {
      input_quantizers_[i] = fit_activation(data, bits_.model_inputs);
      if (mode_ == Mode::after_training) {
        const UniformQuantizer& quantizer = *input_quantizers_[i];
        root_values_[name] = {
            ElementType::floating,
            {calibration_[i].shape, quantizer.dequantize(quantizer.quantize(data))}};
      }
    }
  }
}

void LayerWalk::add_outputs() {
  for (const std::string& output : graph_.outputs) result_.outputs.push_back(quantize(output));
  for (std::size_t i = 0; i < graph_.inputs.size(); ++i)
    result_.inputs.push_back({graph_.inputs[i].name, *input_quantizers_[i]});
}

LayerBits LayerWalk::bits_of(const LinearLayer& layer) const {
  const auto own = request_.layers.find(layer.output);
  return own == request_.layers.end() ? LayerBits{bits_.op_inputs, bits_.op_weights} : own->second;
}

std::optional<QuantizedLayer> LayerWalk::try_fit(LinearLayer& /*layer*/) { return std::nullopt; }

QuantizedLayer LayerWalk::quantize(LinearLayer& layer) {
  if (!is_calibrated(layer)) return quantize_own(layer);
  if (std::optional<QuantizedLayer> fitted = try_fit(layer)) return *std::move(fitted);
  const bool in_sum = chooses_step(layer);
  std::vector<std::vector<double>> values;
  std::vector<UniformQuantizer> quantizers;
  std::vector<bool> is_free;
  for (const FloatTerm& term : layer.terms) {
    values.push_back(values_at(term.tensor));
    if (in_sum) continue;
    is_free.push_back(!is_read_as_input(term.tensor) && !rules_.contains(term.tensor) &&
                      !own_or_none(term.tensor));
    quantizers.push_back(quantizer_of(term.tensor, values.back(), bits_of(layer).inputs));
  }
  if (in_sum) {
    quantizers = quantize_sum(layer, values);
  } else {
    follow_others_where_zero(values, is_free, quantizers);
    align_moves(layer, values, is_free, bits_of(layer).weights, quantizers);
  }
  QuantizedLayer quantized = layer.custom ? custom_layer(layer, graph_, quantizers)
                                          : with_weights(layer, quantizers, values);
  set_bounds(layer, quantized);
  if (is_read_later(layer.output)) root_values_[layer.output] = compute(quantized, values);
  return quantized;
}

void LayerWalk::set_bounds(const LinearLayer& layer, QuantizedLayer& quantized) const {
  const auto whole = rules_.whole.find(layer.output);
  quantized.is_exact = whole != rules_.whole.end() || rules_.exact.contains(layer.output);
  if (whole != rules_.whole.end()) {
    quantized.bounds = whole->second;
    take_in_bias(quantized);
  }
  const auto is_of = [&](const std::map<std::string, std::string>& rule, const std::string& giver) {
    const auto found = rule.find(layer.output);
    return found != rule.end() && found->second == giver;
  };
  for (const QuantizedOperand& operand : quantized.operands) {
    const std::int64_t low = operand.quantizer.lowest(), high = operand.quantizer.highest();
    if (is_of(rules_.compared, operand.tensor)) quantized.bounds = {low - high, high - low};
    if (is_of(rules_.elements_of, operand.tensor)) quantized.bounds = {low, high};
  }
}

QuantizedLayer LayerWalk::with_weights(const LinearLayer& layer,
                                       const std::vector<UniformQuantizer>& quantizers,
                                       const std::vector<std::vector<double>>& values) {
  const Shape& shape = graph_.shapes.at(layer.output);
  const int weight_bits = bits_of(layer).weights;
  if (rules_.is_of_integers(layer.output)) return own_layer(layer, shape, quantizers);
  if (is_compatible()) return quantize_layer(layer, shape, quantizers, weight_bits);
  const bool is_plain = request_.method == QuantizationMethod::minmax;
  QuantizedLayer quantized = quantize_layer_by_channel(layer, shape, quantizers, weight_bits,
                                                       leaves_circuit(layer.output), !is_plain);
  if (!is_plain) correct_bias(quantized, compute(quantized, values));
  return quantized;
}

void LayerWalk::correct_bias(QuantizedLayer& quantized, const FloatTensor& found) {
  const std::vector<double>& expected = float_values(quantized.output);
  const auto elements = static_cast<std::size_t>(number_of_elements(quantized.shape));
  const auto channels =
      quantized.shape.size() > 1 ? static_cast<std::size_t>(quantized.shape[1]) : std::size_t{1};
  const std::size_t inner = elements / channels;
  std::vector<double> error(channels, 0.0);
  for (std::size_t i = 0; i < expected.size(); ++i)
    error[i % elements / inner] += expected[i] - found.values.data[i];
  std::vector<double> bias(elements);
  for (std::size_t e = 0; e < elements; ++e)
    bias[e] = quantized.bias[e % quantized.bias.size()] + error[e / inner] *
                                                              static_cast<double>(channels) /
                                                              static_cast<double>(expected.size());
  compress(bias, quantized.shape);
  quantized.bias = std::move(bias);
}

std::vector<UniformQuantizer> LayerWalk::quantize_sum(
    const LinearLayer& layer, const std::vector<std::vector<double>>& values) {
  std::vector<UniformQuantizer> quantizers = sum_quantizers(layer, values, bits_of(layer).inputs);
  for (std::size_t i = 0; i < quantizers.size(); ++i) {
    std::optional<UniformQuantizer>* input = input_quantizer(layer.terms[i].tensor);
    if (input != nullptr && !input->has_value()) *input = quantizers[i];
  }
  return quantizers;
}

QuantizedOutput LayerWalk::quantize(const std::string& output) {
  if (mode_ == Mode::own_nodes) {
    if (const std::optional<OwnQuantizer> own = own_quantizer(network_, output))
      return {output, {}, {}, own->quantizer};
  }
  const std::string& root = network_.root(output);
  const auto layer = std::ranges::find(result_.layers, root, &QuantizedLayer::output);
  const auto input = std::ranges::find(graph_.inputs, root, &GraphInput::name);
  std::optional<AffineFunction> function;
  if (layer != result_.layers.end()) {
    function = function_of_layer(network_, *layer, output);
  } else {
    std::optional<UniformQuantizer>& quantizer =
        input_quantizers_[static_cast<std::size_t>(input - graph_.inputs.begin())];
    function = function_of_input(network_, *quantizer, output);
  }
  if (function) return {output, std::move(function->slope), std::move(function->offset), {}};
  return {output, {}, {}, fit(values_at(output), bits_.model_outputs)};
}

std::vector<double> LayerWalk::values_at(const std::string& tensor) {
  if (mode_ != Mode::after_training) {
    if (floats_.empty()) floats_ = evaluate(graph_, calibration_);
    return floats_.at(tensor).values.data;
  }
  const std::string& root = network_.root(tensor);
  if (!root_values_.contains(root)) {
    const auto layer = std::ranges::find(result_.layers, root, &QuantizedLayer::output);
    const auto input = std::ranges::find(graph_.inputs, root, &GraphInput::name);
    const auto index = static_cast<std::size_t>(input - graph_.inputs.begin());
    if (layer == result_.layers.end() && input == graph_.inputs.end()) {
      throw Error(ErrorCode::internal, fmt::format("'{}' is read before it has integers", tensor));
    }
    if (layer == result_.layers.end() && network_.is_plain(tensor)) return calibration_[index].data;
    root_values_[root] = layer == result_.layers.end()
                             ? FloatTensor{ElementType::floating, calibration_[index]}
                             : compute_again(*layer);
  }
  return network_.evaluate_from_root(tensor, root_values_.at(root)).values.data;
}

FloatTensor LayerWalk::compute(const QuantizedLayer& layer,
                               const std::vector<std::vector<double>>& values) const {
  return layer_output(layer, values, calibration_[0].shape[0], graph_.shapes.at(layer.output));
}

FloatTensor LayerWalk::compute_again(const QuantizedLayer& layer) {
  std::vector<std::vector<double>> values;
  for (const QuantizedOperand& operand : layer.operands)
    values.push_back(values_at(operand.tensor));
  return compute(layer, values);
}

const std::vector<double>& LayerWalk::float_values(const std::string& root) {
  if (floats_.empty()) {
    floats_ = evaluate(graph_, calibration_);
    std::erase_if(floats_,
                  [&](const auto& entry) { return !network_.roots().contains(entry.first); });
  }
  return floats_.at(root).values.data;
}

std::vector<LayerWalk::Reader> LayerWalk::readers_of(const std::string& input) const {
  std::vector<Reader> readers;
  for (const LinearLayer& layer : layers_) {
    for (const FloatTerm& term : layer.terms) {
      if (network_.root(term.tensor) == input) readers.push_back({&layer, term.tensor});
    }
  }
  return readers;
}

bool LayerWalk::read_the_same(const std::vector<Reader>& readers) const {
  const auto tensors = [](const Reader& reader) {
    std::set<std::string> names;
    for (const FloatTerm& term : reader.layer->terms)
      names.insert(fmt::format("{} {}", *term.map.shared_magnitude(), term.tensor));
    return names;
  };
  return std::ranges::all_of(readers, [&](const Reader& reader) {
    return chooses_step(*reader.layer) && tensors(reader) == tensors(readers[0]);
  });
}

bool LayerWalk::is_read_later(const std::string& root) const {
  for (const LinearLayer& layer : layers_) {
    for (const FloatTerm& term : layer.terms) {
      if (network_.root(term.tensor) == root) return true;
    }
  }
  return std::ranges::any_of(graph_.outputs, [&](const std::string& output) {
    return network_.root(output) == root && !network_.is_affine(output);
  });
}

bool LayerWalk::leaves_circuit(const std::string& root) const {
  return std::ranges::any_of(graph_.outputs, [&](const std::string& output) {
    return network_.root(output) == root && network_.is_affine(output);
  });
}

UniformQuantizer LayerWalk::fit_activation(const std::vector<double>& values, int bits) const {
  if (is_compatible()) return fit(values, bits);
  return calibrate(values, bits, {request_.method, request_.percentile});
}

}  // namespace torusml
