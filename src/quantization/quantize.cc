#include "quantization/quantize.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <random>

#include "base/progress.h"
#include "quantization/activation_calibration.h"
#include "quantization/batch_normalization.h"
#include "quantization/calibration.h"
#include "quantization/decompositions.h"
#include "quantization/fine_tuning.h"
#include "quantization/layer_quantization.h"
#include "quantization/max_pools.h"
#include "quantization/output_functions.h"
#include "quantization/output_loss.h"
#include "quantization/own_quantizers.h"
#include "quantization/reconstruction.h"
#include "quantization/step_thresholds.h"
#include "quantization/tied_weights.h"
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

constexpr std::int64_t kLeastDivided = 160;  // samples: fewer are not divided
constexpr std::size_t kMostFitted = 4096, kMostHeld = 1024;
constexpr int kMostTunedBits = 6;  // of activations: finer ones have too many thresholds
constexpr std::int64_t kMostParameters = 4096;  // of a channel that is fitted
// Sums to fit (samples times places of a convolution) for each weight of a channel, at least: with
// fewer a fit follows the samples' accidents.
constexpr std::int64_t kSumsPerWeight = 4;
constexpr double kMargin = 1.1;  // of calibrated widths: 5 % on each side

void check_method(const QuantizationRequest& request) {
  if (!(request.percentile > 50 && request.percentile <= 100)) {
    throw Error(
        ErrorCode::invalid_argument,
        fmt::format("percentile is {}; it must be above 50, and 100 at most", request.percentile),
        "percentile", "99.9");
  }
  if (request.accumulator_bits != 0 &&
      (request.accumulator_bits < 2 || request.accumulator_bits > 16)) {
    throw Error(ErrorCode::invalid_argument,
                fmt::format("accumulator_bits is {}; 2 to 16 are possible, 0 leaves them free",
                            request.accumulator_bits),
                "accumulator_bits", "8");
  }
  if (request.accumulator_bits != 0 && request.method != QuantizationMethod::best) {
    throw Error(ErrorCode::invalid_argument,
                fmt::format("accumulators are kept narrow by method best, not by {}",
                            to_string(request.method)),
                "accumulator_bits", "method best");
  }
  if (request.method == QuantizationMethod::compatible) return;
  if (request.import_qat) {
    throw Error(ErrorCode::invalid_argument,
                fmt::format("method {} chooses quantizers, and the network is to bring its own",
                            to_string(request.method)),
                "method", "one of the two: no method, or import_qat=False");
  }
  if (request.bits.op_weights < 2) {
    throw Error(ErrorCode::unsupported_bits, "weights of 1 bit have no integer above zero",
                "op_weights", "2 bits or more, or no method");
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
        request_(request),
        bits_(request.bits),
        mode_(!request.import_qat      ? Mode::after_training
              : has_quantizers(graph_) ? Mode::own_nodes
                                       : Mode::own_grid) {}

  QuantizedGraph run() {
    run_layers({});
    add_outputs();
    result_.graph = std::move(graph_);
    return std::move(result_);
  }

  // Fitted layer by layer; and, where it can be, with all integers tuned on `loss` after that.
  std::vector<QuantizedGraph> run_best(const OutputLoss& loss, const ProgressCallback& progress) {
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

 private:
  enum class Mode { after_training, own_nodes, own_grid };

  void run_layers(const ProgressCallback& progress) {
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

  void add_outputs() {
    for (const std::string& output : graph_.outputs) result_.outputs.push_back(quantize(output));
    for (std::size_t i = 0; i < graph_.inputs.size(); ++i)
      result_.inputs.push_back({graph_.inputs[i].name, *input_quantizers_[i]});
  }

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
    return fit_activation(values,
                          bits_.op_inputs + (more == rules_.more_bits.end() ? 0 : more->second));
  }

  bool is_compatible() const { return request_.method == QuantizationMethod::compatible; }

  UniformQuantizer fit_activation(const std::vector<double>& values, int bits) const {
    if (is_compatible()) return fit(values, bits);
    return calibrate(values, bits, {request_.method, request_.percentile});
  }

  QuantizedLayer quantize(LinearLayer& layer) {
    if (!is_calibrated(layer)) return quantize_own(layer);
    if (request_.method == QuantizationMethod::best) {
      if (std::optional<QuantizedLayer> fitted = fitted_to_floats(layer)) return *std::move(fitted);
    }
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
                                            : with_weights(layer, quantizers, values);
    if (is_read_later(layer.output)) root_values_[layer.output] = compute(quantized, values);
    return quantized;
  }

  QuantizedLayer with_weights(const LinearLayer& layer,
                              const std::vector<UniformQuantizer>& quantizers,
                              const std::vector<std::vector<double>>& values) {
    const Shape& shape = graph_.shapes.at(layer.output);
    if (is_compatible()) return quantize_layer(layer, shape, quantizers, bits_.op_weights);
    const bool is_plain = request_.method == QuantizationMethod::minmax;
    QuantizedLayer quantized = quantize_layer_by_channel(layer, shape, quantizers, bits_.op_weights,
                                                         leaves_circuit(layer.output), !is_plain);
    if (!is_plain) correct_bias(quantized, compute(quantized, values));
    return quantized;
  }

  // The mean error of every channel (axis 1) on the calibration data goes into its bias.
  void correct_bias(QuantizedLayer& quantized, const FloatTensor& found) {
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
      bias[e] =
          quantized.bias[e % quantized.bias.size()] +
          error[e / inner] * static_cast<double>(channels) / static_cast<double>(expected.size());
    compress(bias, quantized.shape);
    quantized.bias = std::move(bias);
  }

  // What the float network computes on the calibration data; of roots only.
  const std::vector<double>& float_values(const std::string& root) {
    if (floats_.empty()) {
      floats_ = evaluate(graph_, calibration_);
      std::erase_if(floats_,
                    [&](const auto& entry) { return !network_.roots().contains(entry.first); });
    }
    return floats_.at(root).values.data;
  }

  // Accumulators are an output of the circuit, through nothing but scales.
  bool leaves_circuit(const std::string& root) const {
    return std::ranges::any_of(graph_.outputs, [&](const std::string& output) {
      return network_.root(output) == root && network_.is_affine(output);
    });
  }

  // A layer that was fitted to the float network.
  struct Fitted {
    LinearLayer* layer;
    TiedWeights tied;
    UniformQuantizer quantizer;
    FittedLayer numbers;
    std::vector<double> divisor;  // of its results, by element; empty: 1
  };

  // None for layers that are no matrix or convolution of one operand.
  std::optional<QuantizedLayer> fitted_to_floats(LinearLayer& layer) {
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
    for (std::size_t i = 0; i < targets.size(); ++i)
      targets[i] -= layer.bias[i % layer.bias.size()];
    std::vector<double> values = values_at(term.tensor);
    UniformQuantizer quantizer;
    if (is_read_as_input(term.tensor)) {
      quantizer = **input_quantizer(term.tensor);
    } else {
      const std::string& root = network_.root(term.tensor);
      OperandChoice choice = choose_operand(*tied, values, graph_.shapes.at(root), targets,
                                            bits_.op_inputs, can_be_equalized(term), request_.seed);
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
                                    {.bits = bits_.op_weights,
                                     .has_one_scale = is_output,
                                     .most_width = is_output ? 0 : most_width()},
                                    request_.seed);
    Fitted& fitted = fitted_[layer.output] = {
        &layer, *std::move(tied), std::move(quantizer), std::move(numbers), {}};
    QuantizedLayer quantized = built(fitted);
    if (is_read_later(layer.output)) root_values_[layer.output] = compute(quantized, {values});
    return quantized;
  }

  double most_width() const {
    const int bits = request_.accumulator_bits;
    return bits == 0 ? 0 : std::floor((std::ldexp(1.0, bits) - 3) / kMargin);
  }

  QuantizedLayer built(const Fitted& fitted) const {
    return fitted_layer(*fitted.layer, graph_.shapes.at(fitted.layer->output), fitted.quantizer,
                        fitted.tied.entries(fitted.numbers.integers),
                        fitted.tied.by_element(fitted.numbers.scale),
                        fitted.tied.by_element(fitted.numbers.shift));
  }

  // Channels of the operand's root may be scaled by any positive factor: only this term sees them,
  // through functions f with f(c x) = c f(x).
  bool can_be_equalized(const FloatTerm& term) const {
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

  void divide_root(const std::string& root, std::vector<double> divisor) {
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

  // Moves the integers of a chain of fitted layers until the output is nearest to the float
  // network's. False where the layers are no such chain.
  bool tune(const OutputLoss& loss, const ProgressCallback& progress) {
    if (bits_.op_inputs > kMostTunedBits || graph_.inputs.size() != 1 ||
        graph_.outputs.size() != 1 || fitted_.size() != layers_.size())
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

  static Eigen::ArrayXXf to_array(const std::vector<double>& values, Eigen::Index samples) {
    const Eigen::Index elements = static_cast<Eigen::Index>(values.size()) / samples;
    return Eigen::Map<const RowMatrix>(values.data(), samples, elements).cast<float>();
  }

  std::optional<TunedStage> stage(const Fitted& fitted) {
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

  // The quantized operand of the layer `next`, as steps of `root`. False where it is not rising.
  bool add_thresholds(TunedStage& stage, const std::string& root, const LinearLayer& next) {
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
  const QuantizationRequest request_;
  const QuantizationBits bits_;
  const Mode mode_;
  std::vector<LinearLayer> layers_;
  std::map<std::string, Fitted> fitted_;  // by layer output
  std::vector<std::optional<UniformQuantizer>> input_quantizers_;
  // Of layers, and of inputs whose integers are not what the layers read.
  std::map<std::string, FloatTensor> root_values_;
  std::map<std::string, FloatTensor> floats_;
  QuantizedGraph result_;
};

// One output of several elements.
bool is_classifier(const FloatGraph& graph) {
  return graph.outputs.size() == 1 && number_of_elements(graph.shapes.at(graph.outputs[0])) > 1;
}

std::vector<Tensor<double>> rows(const std::vector<Tensor<double>>& data,
                                 const std::vector<std::size_t>& chosen) {
  std::vector<Tensor<double>> result;
  for (const Tensor<double>& tensor : data) {
    const std::size_t length = tensor.data.size() / static_cast<std::size_t>(tensor.shape[0]);
    Tensor<double> some{tensor.shape, {}};
    some.shape[0] = static_cast<std::int64_t>(chosen.size());
    for (const std::size_t row : chosen) {
      const auto first = tensor.data.begin() + static_cast<std::ptrdiff_t>(row * length);
      some.data.insert(some.data.end(), first, first + static_cast<std::ptrdiff_t>(length));
    }
    result.push_back(std::move(some));
  }
  return result;
}

// Every output's elements of a sample, one output after the other.
std::vector<double> side_by_side(const std::vector<std::vector<double>>& outputs,
                                 std::size_t samples) {
  std::vector<double> result;
  for (std::size_t s = 0; s < samples; ++s) {
    for (const std::vector<double>& output : outputs) {
      const auto length = static_cast<std::ptrdiff_t>(output.size() / samples);
      const auto first = output.begin() + static_cast<std::ptrdiff_t>(s) * length;
      result.insert(result.end(), first, first + length);
    }
  }
  return result;
}

OutputLoss loss_on(const FloatGraph& graph, const std::vector<Tensor<double>>& inputs) {
  const std::map<std::string, FloatTensor> values = evaluate(graph, inputs);
  std::vector<std::vector<double>> outputs;
  for (const std::string& name : graph.outputs) outputs.push_back(values.at(name).values.data);
  const std::int64_t samples = inputs[0].shape[0];
  return {side_by_side(outputs, static_cast<std::size_t>(samples)), samples, is_classifier(graph)};
}

Eigen::ArrayXXf outputs_of(const QuantizedGraph& quantized,
                           const std::vector<Tensor<double>>& inputs, const OutputLoss& loss) {
  return loss.to_array(side_by_side(evaluate_quantized(quantized, inputs),
                                    static_cast<std::size_t>(loss.samples())));
}

// Fitted and tuned on most of the samples; the best on the others. Few samples are not divided.
QuantizedGraph quantize_best(FloatGraph graph, const std::vector<Tensor<double>>& calibration,
                             const QuantizationRequest& request, const ProgressCallback& progress) {
  const std::int64_t samples = calibration[0].shape[0];
  if (samples < kLeastSamples) {
    throw Error(ErrorCode::calibration_too_small,
                fmt::format("method best fits integers to {} calibration samples; it needs {}",
                            samples, kLeastSamples),
                "calibration", "some hundred typical samples, or method mse");
  }
  fold_batch_normalization(graph);
  std::vector<std::size_t> order(static_cast<std::size_t>(samples));
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::mt19937_64 random(request.seed);
  for (std::size_t i = 0; i + 1 < order.size(); ++i)
    std::swap(order[i], order[i + random() % (order.size() - i)]);
  const bool is_divided = samples >= kLeastDivided;
  const std::size_t held = is_divided ? std::min(order.size() / 5, kMostHeld) : 0;
  std::vector<std::size_t> fitted_on(order.begin() + static_cast<std::ptrdiff_t>(held),
                                     order.end());
  fitted_on.resize(std::min(fitted_on.size(), kMostFitted));
  const std::vector<Tensor<double>> inputs = rows(calibration, fitted_on);
  const std::vector<Tensor<double>> others =
      is_divided
          ? rows(calibration, {order.begin(), order.begin() + static_cast<std::ptrdiff_t>(held)})
          : inputs;
  check_not_constant(graph, inputs);

  std::vector<QuantizedGraph> found =
      Quantization(graph, inputs, request).run_best(loss_on(graph, inputs), progress);
  QuantizationRequest simple = request;
  simple.method = QuantizationMethod::mse;
  if (request.accumulator_bits == 0) found.push_back(Quantization(graph, inputs, simple).run());
  OutputLoss loss = loss_on(graph, others);
  loss.relate_to(outputs_of(found[0], others, loss));
  std::vector<double> losses;
  for (const QuantizedGraph& quantized : found)
    losses.push_back(loss.of(outputs_of(quantized, others, loss)));
  const auto least = std::ranges::min_element(losses) - losses.begin();
  return std::move(found[static_cast<std::size_t>(least)]);
}

}  // namespace

QuantizedGraph quantize(FloatGraph graph, const std::vector<Tensor<double>>& calibration,
                        const QuantizationRequest& request, const ProgressCallback& progress) {
  check_request(request.bits);
  check_method(request);
  check_calibration(graph, calibration);
  check_not_constant(graph, calibration);
  if (request.method == QuantizationMethod::best)
    return quantize_best(std::move(graph), calibration, request, progress);
  return Quantization(std::move(graph), calibration, request).run();
}

}  // namespace torusml
