#include "quantization/quantize.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "quantization/calibration.h"
#include "quantization/decompositions.h"
#include "quantization/layer_quantization.h"
#include "quantization/max_pools.h"
#include "quantization/output_functions.h"
#include "quantization/own_quantizers.h"
#include "torusml/error.h"

namespace torusml {
namespace {

constexpr int kMaxBits = 32;
// Of quantizers that have another one's step, so that they clip nothing.
constexpr int kSlackBits = 4;

void check_bits(int bits, const char* role) {
  if (bits >= 1 && bits <= kMaxBits) return;
  throw Error(ErrorCode::unsupported_bits,
              fmt::format("{} has {} bits; 1 to 32 are supported", role, bits), "",
              "2 to 8 bits for most networks");
}

void check_request(const QuantizationBits& bits) {
  check_bits(bits.op_inputs, "op_inputs");
  check_bits(bits.op_weights, "op_weights");
  check_bits(bits.model_inputs, "model_inputs");
  check_bits(bits.model_outputs, "model_outputs");
  if (bits.model_outputs < bits.op_inputs) {
    throw Error(ErrorCode::invalid_argument,
                fmt::format("model_outputs ({} bits) must not be below op_inputs ({} bits)",
                            bits.model_outputs, bits.op_inputs),
                "", fmt::format("model_outputs={}", bits.op_inputs));
  }
}

UniformQuantizer fit(const std::vector<double>& values, int bits) {
  return UniformQuantizer::fit({.n_bits = bits, .is_signed = min_max_stats(values).rmin < 0},
                               values);
}

// The graph of what encrypted data can do.
StepRules rewrite(FloatGraph& graph, const std::vector<Tensor<double>>& calibration, int bits) {
  StepRules rules = decompose(graph, calibration, bits);
  expand_max_pools(graph, rules);
  return rules;
}

class Quantization {
 public:
  Quantization(FloatGraph graph, const std::vector<Tensor<double>>& calibration,
               const QuantizationRequest& request)
      : graph_(std::move(graph)),
        rules_(rewrite(graph_, calibration, request.bits.op_inputs)),
        network_(graph_),
        calibration_(calibration),
        bits_(request.bits),
        mode_(!request.import_qat      ? Mode::after_training
              : has_quantizers(graph_) ? Mode::own_nodes
                                       : Mode::own_grid) {}

  QuantizedGraph run() {
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
    for (const LinearLayer& layer : layers_) result_.layers.push_back(quantize(layer));
    for (const std::string& output : graph_.outputs) result_.outputs.push_back(quantize(output));
    for (std::size_t i = 0; i < graph_.inputs.size(); ++i)
      result_.inputs.push_back({graph_.inputs[i].name, *input_quantizers_[i]});
    result_.graph = std::move(graph_);
    return std::move(result_);
  }

 private:
  enum class Mode { after_training, own_nodes, own_grid };

  struct Reader {
    const LinearLayer* layer;
    std::string tensor;
  };

  void check_own_quantizers() const {
    std::vector<std::string> missing;
    for (const LinearLayer& layer : layers_) {
      if (rules_.made.contains(layer.output)) continue;
      for (const FloatTerm& term : layer.terms) {
        if (!own_quantizer(network_, step_giver(term.tensor)))
          missing.push_back(fmt::format("'{}' (read by '{}')", term.tensor, layer.name));
      }
    }
    if (missing.empty()) return;
    throw Error(
        ErrorCode::missing_quantizer,
        fmt::format("{} linear layers without a quantizer: {}",
                    missing.size() == 1 ? "1 tensor reaches"
                                        : fmt::format("{} tensors reach", missing.size()),
                    fmt::join(missing, ", ")),
        "", "a QuantIdentity on each of them (torusml.torch.to_qat puts them where they belong)");
  }

  // The tensor whose quantizer another one's is made of; itself but for maxima.
  const std::string& step_giver(const std::string& tensor) const {
    const auto giver = rules_.step_of.find(tensor);
    return giver == rules_.step_of.end() ? tensor : giver->second;
  }

  // The quantizer of a positive difference of what `quantizer` quantizes.
  UniformQuantizer of_difference(const UniformQuantizer& quantizer) const {
    QuantizationOptions options = quantizer.options();
    options.is_signed = options.is_narrow = options.is_symmetric = false;
    options.n_bits = std::min(options.n_bits + kSlackBits, kMaxBits);
    return {options, {quantizer.parameters().scale, {0}, 0}};
  }

  // Operands choose a common step.
  bool chooses_step(const LinearLayer& layer) const {
    return !layer.custom && is_sum(layer) && !has_given_step(layer);
  }

  // Maxima of one tensor are on that tensor's step, which the other operands can follow.
  bool has_given_step(const LinearLayer& layer) const {
    std::set<std::string> givers;
    bool others_follow = true;
    for (const FloatTerm& term : layer.terms) {
      if (rules_.contains(term.tensor))
        givers.insert(step_giver(term.tensor));
      else
        others_follow &=
            !network_.is_input(network_.root(term.tensor)) && !own_or_none(term.tensor);
    }
    return givers.size() == 1 && (others_follow || has_own_steps(layer));
  }

  // The network's own quantizers, whose steps are in integer ratio.
  bool has_own_steps(const LinearLayer& layer) const {
    if (mode_ != Mode::own_nodes || layer.custom) return false;
    std::vector<UniformQuantizer> quantizers;
    for (const FloatTerm& term : layer.terms) {
      const std::optional<UniformQuantizer> own = own_or_none(step_giver(term.tensor));
      if (!own) return false;
      quantizers.push_back(*own);
    }
    return are_in_ratio(quantizers);
  }

  // By values instead of the network's own quantizers.
  bool is_calibrated(const LinearLayer& layer) const {
    if (mode_ == Mode::after_training || rules_.made.contains(layer.output)) return true;
    return mode_ == Mode::own_nodes && chooses_step(layer) && !has_own_steps(layer);
  }

  std::vector<Reader> readers_of(const std::string& input) const {
    std::vector<Reader> readers;
    for (const LinearLayer& layer : layers_) {
      for (const FloatTerm& term : layer.terms) {
        if (network_.root(term.tensor) == input) readers.push_back({&layer, term.tensor});
      }
    }
    return readers;
  }

  // Sums of the same tensors choose the same step.
  bool read_the_same(const std::vector<Reader>& readers) const {
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

  // The quantizer of an input is that of its readers, if they agree on one.
  // Else the input has its own, and tables behind it. An input that only a sum
  // reads waits for that sum's common scale.
  void quantize_inputs() {
    input_quantizers_.resize(graph_.inputs.size());
    for (std::size_t i = 0; i < graph_.inputs.size(); ++i) {
      const std::string& name = graph_.inputs[i].name;
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
          input_quantizers_[i] = fit(data, bits_.op_inputs);
        else if (read_the_same(readers))
          continue;  // waits for the sum
      }
      if (!input_quantizers_[i]) {
        input_quantizers_[i] = fit(data, bits_.model_inputs);
        if (mode_ == Mode::after_training) {
          const UniformQuantizer& quantizer = *input_quantizers_[i];
          root_values_[name] = {
              ElementType::floating,
              {calibration_[i].shape, quantizer.dequantize(quantizer.quantize(data))}};
        }
      }
    }
  }

  std::optional<UniformQuantizer> shared_own_quantizer(const std::vector<Reader>& readers) const {
    std::optional<UniformQuantizer> shared;
    for (const Reader& reader : readers) {
      const std::optional<OwnQuantizer> own = own_quantizer(network_, reader.tensor);
      if (!own || !network_.is_plain(own->input)) return std::nullopt;
      if (shared && !(*shared == own->quantizer)) return std::nullopt;
      shared = own->quantizer;
    }
    return shared;
  }

  UniformQuantizer grid_or_throw(const std::string& tensor, const std::vector<double>& values,
                                 const std::string& layer) const {
    if (std::optional<UniformQuantizer> grid = grid_quantizer(values, bits_.op_inputs))
      return *grid;
    throw Error(ErrorCode::missing_quantizer,
                fmt::format("the network has no quantizers, and the values of tensor "
                            "'{}' are not "
                            "multiples of one step that fit into {} bits",
                            tensor, bits_.op_inputs),
                fmt::format("layer '{}'", layer),
                "a QuantIdentity on this tensor (torusml.torch.to_qat), or more bits");
  }

  // A tensor's numbers on the calibration data: what the quantized network
  // computes, or the float network if it brings its quantizers along.
  std::vector<double> values_at(const std::string& tensor) {
    if (mode_ != Mode::after_training) {
      if (floats_.empty()) floats_ = evaluate(graph_, calibration_);
      return floats_.at(tensor).values.data;
    }
    const std::string& root = network_.root(tensor);
    if (!root_values_.contains(root)) {
      const auto layer = std::ranges::find(result_.layers, root, &QuantizedLayer::output);
      const auto input = std::ranges::find(graph_.inputs, root, &GraphInput::name);
      const auto index = static_cast<std::size_t>(input - graph_.inputs.begin());
      if (layer == result_.layers.end() && network_.is_plain(tensor))
        return calibration_[index].data;
      root_values_[root] = layer == result_.layers.end()
                               ? FloatTensor{ElementType::floating, calibration_[index]}
                               : compute_again(*layer);
    }
    return network_.evaluate_from_root(tensor, root_values_.at(root)).values.data;
  }

  std::optional<UniformQuantizer>* input_quantizer(const std::string& tensor) {
    for (std::size_t i = 0; i < graph_.inputs.size(); ++i) {
      if (graph_.inputs[i].name == network_.root(tensor)) return &input_quantizers_[i];
    }
    return nullptr;
  }

  // An input whose integers are the operand's own.
  bool is_read_as_input(const std::string& tensor) const {
    const std::string& root = network_.root(tensor);
    return network_.is_input(root) && network_.is_plain(tensor) && !root_values_.contains(root);
  }

  std::optional<UniformQuantizer> own_or_none(const std::string& tensor) const {
    if (mode_ != Mode::own_nodes) return std::nullopt;
    const std::optional<OwnQuantizer> own = own_quantizer(network_, tensor);
    return own ? std::optional(own->quantizer) : std::nullopt;
  }

  UniformQuantizer quantizer_of(const std::string& tensor, const std::vector<double>& values) {
    const std::string& giver = step_giver(tensor);
    if (giver != tensor) return of_difference(quantizer_of(giver, values_at(giver)));
    if (const std::optional<UniformQuantizer> own = own_or_none(tensor)) return *own;
    if (is_read_as_input(tensor)) return **input_quantizer(tensor);
    const auto more = rules_.more_bits.find(tensor);
    return fit(values, bits_.op_inputs + (more == rules_.more_bits.end() ? 0 : more->second));
  }

  QuantizedLayer quantize(const LinearLayer& layer) {
    if (!is_calibrated(layer)) return quantize_own(layer);
    const bool in_sum = chooses_step(layer);
    std::vector<std::vector<double>> values;
    std::vector<UniformQuantizer> quantizers;
    std::vector<bool> is_free;
    for (const FloatTerm& term : layer.terms) {
      values.push_back(values_at(term.tensor));
      if (in_sum) continue;
      is_free.push_back(!is_read_as_input(term.tensor) && !rules_.contains(term.tensor) &&
                        !own_or_none(term.tensor));
      quantizers.push_back(quantizer_of(term.tensor, values.back()));
    }
    if (in_sum)
      quantizers = quantize_sum(layer, values);
    else
      align_moves(layer, values, is_free, bits_.op_weights, quantizers);
    QuantizedLayer quantized = layer.custom ? custom_layer(layer, graph_, quantizers)
                                            : quantize_layer(layer, graph_.shapes.at(layer.output),
                                                             quantizers, bits_.op_weights);
    if (is_read_later(layer.output)) root_values_[layer.output] = compute(quantized, values);
    return quantized;
  }

  std::vector<UniformQuantizer> quantize_sum(const LinearLayer& layer,
                                             const std::vector<std::vector<double>>& values) {
    std::vector<UniformQuantizer> quantizers = sum_quantizers(layer, values, bits_.op_inputs);
    for (std::size_t i = 0; i < quantizers.size(); ++i) {
      std::optional<UniformQuantizer>* input = input_quantizer(layer.terms[i].tensor);
      if (input != nullptr && !input->has_value()) *input = quantizers[i];
    }
    return quantizers;
  }

  QuantizedLayer quantize_own(const LinearLayer& layer) {
    std::vector<UniformQuantizer> quantizers;
    for (const FloatTerm& term : layer.terms) {
      const std::string& giver = step_giver(term.tensor);
      const UniformQuantizer quantizer = mode_ == Mode::own_nodes
                                             ? own_quantizer(network_, giver)->quantizer
                                             : grid_or_throw(giver, values_at(giver), layer.name);
      quantizers.push_back(giver == term.tensor ? quantizer : of_difference(quantizer));
    }
    return layer.custom ? custom_layer(layer, graph_, quantizers)
                        : own_layer(layer, graph_.shapes.at(layer.output), quantizers);
  }

  bool is_read_later(const std::string& root) const {
    for (const LinearLayer& layer : layers_) {
      for (const FloatTerm& term : layer.terms) {
        if (network_.root(term.tensor) == root) return true;
      }
    }
    return std::ranges::any_of(graph_.outputs, [&](const std::string& output) {
      return network_.root(output) == root && !network_.is_affine(output);
    });
  }

  // The layer's float output on the calibration data, from quantized operands.
  FloatTensor compute(const QuantizedLayer& layer,
                      const std::vector<std::vector<double>>& values) const {
    const std::int64_t samples = calibration_[0].shape[0];
    const auto elements = static_cast<std::size_t>(number_of_elements(layer.shape));
    Tensor<double> sums{layer.shape,
                        std::vector<double>(static_cast<std::size_t>(samples) * elements)};
    sums.shape[0] = samples;
    for (std::size_t i = 0; i < sums.data.size() && !layer.integer_bias.empty(); ++i)
      sums.data[i] = static_cast<double>(layer.integer_bias[i % elements]);
    for (std::size_t i = 0; i < layer.operands.size(); ++i) {
      const std::vector<std::int64_t> q = layer.operands[i].quantizer.quantize(values[i]);
      add_product(layer.operands[i].weight, {q.begin(), q.end()}, samples, sums.data);
    }
    return layer_output(layer, sums, graph_.shapes.at(layer.output));
  }

  FloatTensor compute_again(const QuantizedLayer& layer) {
    std::vector<std::vector<double>> values;
    for (const QuantizedOperand& operand : layer.operands)
      values.push_back(values_at(operand.tensor));
    return compute(layer, values);
  }

  QuantizedOutput quantize(const std::string& output) {
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

  FloatGraph graph_;
  const StepRules rules_;
  const Network network_;
  const std::vector<Tensor<double>>& calibration_;
  const QuantizationBits bits_;
  const Mode mode_;
  std::vector<LinearLayer> layers_;
  std::vector<std::optional<UniformQuantizer>> input_quantizers_;
  // Of layers, and of inputs whose integers are not what the layers read.
  std::map<std::string, FloatTensor> root_values_;
  std::map<std::string, FloatTensor> floats_;
  QuantizedGraph result_;
};

}  // namespace

QuantizedGraph quantize(FloatGraph graph, const std::vector<Tensor<double>>& calibration,
                        const QuantizationRequest& request) {
  check_request(request.bits);
  check_calibration(graph, calibration);
  check_not_constant(graph, calibration);
  return Quantization(std::move(graph), calibration, request).run();
}

}  // namespace torusml
