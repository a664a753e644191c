#include "quantization/quantize.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <map>

#include "importer/custom_operator.h"
#include "quantization/float_layers.h"
#include "quantization/quantizer_nodes.h"
#include "torusml/error.h"

namespace torusml {
namespace {

using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using ConstMatrixMap = Eigen::Map<const Matrix>;

constexpr double kConstantWidth = 1e-6;  // below this a range counts as constant
constexpr double kGridTolerance = 1e-3;  // of a quantized weight from its integer

void check_bits(int bits, const char* role) {
  if (bits >= 1 && bits <= 32) return;
  throw Error(ErrorCode::unsupported_bits,
              fmt::format("{} has {} bits; 1 to 32 are supported", role, bits));
}

void check_request(const QuantizationRequest& request) {
  check_bits(request.bits.op_inputs, "op_inputs");
  check_bits(request.bits.op_weights, "op_weights");
  check_bits(request.bits.model_inputs, "model_inputs");
  check_bits(request.bits.model_outputs, "model_outputs");
  if (request.bits.model_outputs < request.bits.op_inputs) {
    throw Error(ErrorCode::invalid_argument,
                fmt::format("model_outputs ({} bits) must not be below op_inputs ({} bits)",
                            request.bits.model_outputs, request.bits.op_inputs));
  }
}

void check_calibration(const FloatGraph& graph, const std::vector<Tensor<double>>& calibration) {
  if (calibration.size() != graph.inputs.size()) {
    throw Error(ErrorCode::wrong_shape, fmt::format("calibration has {} inputs, the model {}",
                                                    calibration.size(), graph.inputs.size()));
  }
  for (std::size_t i = 0; i < calibration.size(); ++i) {
    const GraphInput& input = graph.inputs[i];
    const Tensor<double>& data = calibration[i];
    const std::string where = fmt::format("input '{}'", input.name);
    const bool matches =
        data.shape.size() == input.shape.size() && data.shape.size() >= 1 &&
        std::equal(input.shape.begin() + 1, input.shape.end(), data.shape.begin() + 1);
    if (!matches || number_of_elements(data.shape) != static_cast<std::int64_t>(data.data.size())) {
      throw Error(
          ErrorCode::wrong_shape,
          fmt::format("calibration has shape {}, the model takes {} with any number of samples",
                      to_string(data.shape), to_string(input.shape)),
          where);
    }
    if (data.data.empty())
      throw Error(ErrorCode::empty_calibration, "calibration has no sample", where,
                  "some hundred typical inputs");
    if (data.shape[0] != calibration[0].shape[0]) {
      throw Error(ErrorCode::wrong_shape,
                  fmt::format("calibration has {} samples, other inputs have {}", data.shape[0],
                              calibration[0].shape[0]),
                  where);
    }
    const MinMaxQuantizationStats stats = min_max_stats(data.data);
    if (stats.rmax - stats.rmin < kConstantWidth) {
      throw Error(ErrorCode::constant_calibration,
                  fmt::format("every calibration value is {}", stats.rmax), where,
                  "calibration data that covers the inputs to come");
    }
  }
}

double percentile(std::vector<double> values, double fraction) {
  const double place = fraction * static_cast<double>(values.size() - 1);
  const auto low = static_cast<std::size_t>(place);
  std::ranges::sort(values);
  const std::size_t high = std::min(low + 1, values.size() - 1);
  return values[low] + (place - static_cast<double>(low)) * (values[high] - values[low]);
}

// Weights spread evenly around zero are quantized symmetrically, others with a zero point.
bool is_centred(const std::vector<double>& weights) {
  const MinMaxQuantizationStats range = min_max_stats(weights);
  if (range.rmin >= 0 || range.rmax <= 0) return false;
  const double ratio = std::abs(range.rmin / range.rmax);
  return percentile(weights, 0.03) < 0 && percentile(weights, 0.97) > 0 && ratio > 1.0 / 3 &&
         ratio < 3;
}

class Quantization {
 public:
  Quantization(FloatGraph graph, const std::vector<Tensor<double>>& calibration,
               const QuantizationRequest& request)
      : request_(request), calibration_(calibration) {
    result_.graph = std::move(graph);
    brings_quantizers_ = request.import_qat && has_quantizers(result_.graph);
    float_layers_ = cut_layers(result_.graph);
    if (!request.import_qat)
      float_layers_ = fold_linear_layers(result_.graph, std::move(float_layers_));
    roots_ = layer_roots(result_.graph, float_layers_);
  }

  QuantizedGraph run() {
    quantize_inputs();
    for (const FloatLayer& layer : float_layers_) quantize_layer(layer);
    for (const std::string& name : result_.graph.outputs) quantize_output(name);
    return std::move(result_);
  }

 private:
  const FloatGraph& graph() const { return result_.graph; }

  bool is_input(const std::string& tensor) const {
    return std::ranges::any_of(graph().inputs,
                               [&](const GraphInput& input) { return input.name == tensor; });
  }

  ElementwiseTail tail_of(const std::string& tensor) const {
    return elementwise_tail(graph(), tensor, roots_);
  }

  // Where the quantizer of a layer's operand sits, and the quantizer that the network brings for
  // it.
  std::optional<FoundQuantizer> brought_quantizer(const std::string& tensor) const {
    return brings_quantizers_ ? find_quantizer(graph(), tensor) : std::nullopt;
  }

  void quantize_inputs() {
    for (std::size_t i = 0; i < graph().inputs.size(); ++i) {
      const std::string& name = graph().inputs[i].name;
      UniformQuantizer quantizer =
          shared_quantizer(name).value_or(fit(calibration_[i].data, request_.bits.model_inputs));
      Tensor<double> values = calibration_[i];
      values.data = quantizer.dequantize(quantizer.quantize(values.data));
      roots_values_[name] = {ElementType::floating,
                             request_.import_qat ? calibration_[i] : std::move(values)};
      result_.inputs.push_back({name, std::move(quantizer)});
    }
  }

  // The quantizer that every reader of an input applies to it, if the network brings one.
  std::optional<UniformQuantizer> shared_quantizer(const std::string& input) const {
    std::optional<UniformQuantizer> shared;
    for (const FloatLayer& layer : float_layers_) {
      for (const FloatOperand& operand : layer.operands) {
        const std::optional<FoundQuantizer> found = brought_quantizer(operand.tensor);
        if (!found || tail_of(operand.tensor).root != input) continue;
        if (!std::ranges::all_of(tail_of(found->input).nodes, keeps_values)) return std::nullopt;
        if (shared && !(*shared == found->quantizer)) return std::nullopt;
        shared = found->quantizer;
      }
    }
    return shared;
  }

  static bool keeps_values(const FloatNode* node) {
    static const std::set<std::string> kTypes{"Reshape", "Flatten",   "Identity",
                                              "Squeeze", "Unsqueeze", "Dropout"};
    return !node->custom && kTypes.contains(node->op_type);
  }

  UniformQuantizer fit(const std::vector<double>& values, int bits) const {
    QuantizationOptions options;
    options.n_bits = bits;
    options.is_signed = min_max_stats(values).rmin < 0;
    options.is_qat = request_.import_qat;
    return UniformQuantizer::fit(options, values);
  }

  const std::vector<double> values_at(const std::string& tensor) const {
    const ElementwiseTail tail = tail_of(tensor);
    return evaluate_tail(graph(), tail, roots_values_.at(tail.root)).values.data;
  }

  QuantizedOperand quantize_operand(const FloatLayer& layer, const FloatOperand& operand) const {
    if (const std::optional<FoundQuantizer> found = brought_quantizer(operand.tensor))
      return {found->input, found->quantizer, {}};
    if (brings_quantizers_) {
      throw Error(
          ErrorCode::missing_quantizer,
          fmt::format("tensor '{}' reaches {} without a quantizer", operand.tensor, layer.op_type),
          fmt::format("layer '{}'", layer.name),
          "a QuantIdentity before it (return_quant_tensor=True), or quantized activations");
    }
    const ElementwiseTail tail = tail_of(operand.tensor);
    if (is_input(tail.root) && std::ranges::all_of(tail.nodes, keeps_values)) {
      const auto input = std::ranges::find_if(
          result_.inputs, [&](const QuantizedInput& in) { return in.name == tail.root; });
      return {operand.tensor, input->quantizer, {}};
    }
    return {operand.tensor, fit(values_at(operand.tensor), request_.bits.op_inputs), {}};
  }

  void quantize_layer(const FloatLayer& layer) {
    QuantizedLayer quantized;
    quantized.name = layer.name;
    quantized.output = layer.output;
    quantized.shape = graph().shapes.at(layer.output);
    quantized.custom = layer.custom;
    for (const FloatOperand& operand : layer.operands)
      quantized.operands.push_back(quantize_operand(layer, operand));
    if (layer.custom) return finish_custom(std::move(quantized), layer);
    if (layer.operands[0].weight.data.empty())
      finish_sum(quantized, layer);
    else
      finish_matrix(quantized, layer);
    roots_values_[layer.output] = output_values(quantized);
    result_.layers.push_back(std::move(quantized));
  }

  void finish_custom(QuantizedLayer quantized, const FloatLayer& layer) {
    std::vector<FloatTensor> inputs;
    for (const FloatOperand& operand : layer.operands) {
      const ElementwiseTail tail = tail_of(operand.tensor);
      inputs.push_back(evaluate_tail(graph(), tail, roots_values_.at(tail.root)));
    }
    roots_values_[layer.output] = layer.custom->evaluate(inputs);
    result_.layers.push_back(std::move(quantized));
  }

  void finish_matrix(QuantizedLayer& layer, const FloatLayer& source) const {
    QuantizedOperand& operand = layer.operands[0];
    const UniformQuantizationParameters& x = operand.quantizer.parameters();
    std::vector<double> scales = quantize_weight(operand.weight, source);
    for (std::int64_t row = 0; row < operand.weight.rows; ++row) {
      std::int64_t sum = 0;
      for (std::int64_t c = 0; c < operand.weight.columns; ++c)
        sum += operand.weight.data[static_cast<std::size_t>(row * operand.weight.columns + c)];
      layer.zero.resize(static_cast<std::size_t>(row) + 1);
      layer.zero.back() = sum * x.zero_point[0];
    }
    for (double& scale : scales) scale *= x.scale[0];
    layer.scale = std::move(scales);
    if (!source.bias.empty()) layer.bias = source.bias;
  }

  // Fills the integers (zero point taken off) and gives the weight's scales.
  std::vector<double> quantize_weight(IntegerWeight& weight, const FloatLayer& source) const {
    const FloatOperand& operand = source.operands[0];
    weight.rows = operand.weight.shape[0];
    weight.columns = operand.weight.shape[1];
    const std::vector<double>& values = operand.weight.data;
    if (request_.import_qat && !operand.scales.empty())
      return read_grid(weight, source, operand.scales);
    QuantizationOptions options;
    options.n_bits = request_.bits.op_weights;
    options.is_qat = request_.import_qat;
    options.is_symmetric = !request_.import_qat && is_centred(values);
    options.is_signed = options.is_symmetric || request_.import_qat;
    const UniformQuantizer quantizer = UniformQuantizer::fit(options, values);
    weight.data = quantizer.quantize(values);
    for (std::int64_t& integer : weight.data) integer -= quantizer.parameters().zero_point[0];
    return quantizer.parameters().scale;
  }

  static std::vector<double> read_grid(IntegerWeight& weight, const FloatLayer& source,
                                       const std::vector<double>& scales) {
    const auto rows = static_cast<std::size_t>(weight.rows),
               columns = static_cast<std::size_t>(weight.columns);
    if (scales.size() != 1 && scales.size() != rows) {
      throw Error(ErrorCode::not_supported,
                  fmt::format("{} weight scales for {} output channels", scales.size(), rows),
                  fmt::format("layer '{}'", source.name), "one scale, or one per output channel");
    }
    for (std::size_t i = 0; i < rows * columns; ++i) {
      const double integer =
          source.operands[0].weight.data[i] / scales[i / columns % scales.size()];
      if (std::abs(integer - std::nearbyint(integer)) >
          kGridTolerance * std::max(1.0, std::abs(integer))) {
        throw Error(
            ErrorCode::not_supported,
            fmt::format("weight {} is {} steps of its quantizer, not a whole number", i, integer),
            fmt::format("layer '{}'", source.name));
      }
      weight.data.push_back(static_cast<std::int64_t>(std::nearbyint(integer)));
    }
    return scales;
  }

  // Both operands on one grid, so that the integer sum is exact.
  void finish_sum(QuantizedLayer& layer, const FloatLayer& source) const {
    if (!brings_quantizers_) share_scale(layer, source);
    std::vector<double> scales;
    for (const QuantizedOperand& operand : layer.operands)
      scales.push_back(operand.quantizer.parameters().scale[0]);
    const double step = *std::ranges::min_element(scales);
    layer.scale = {step};
    for (std::size_t i = 0; i < layer.operands.size(); ++i) {
      const double ratio = scales[i] / step;
      if (std::abs(ratio - std::nearbyint(ratio)) > kGridTolerance * ratio) {
        throw Error(
            ErrorCode::not_supported,
            fmt::format("the operands of a sum have scales {} and {}", scales[0], scales[1]),
            fmt::format("layer '{}'", source.name), "one QuantIdentity for both operands");
      }
      QuantizedOperand& operand = layer.operands[i];
      operand.weight.factor =
          static_cast<std::int64_t>(source.operands[i].factor * std::nearbyint(ratio));
      layer.zero[0] += operand.weight.factor * operand.quantizer.parameters().zero_point[0];
    }
  }

  void share_scale(QuantizedLayer& layer, const FloatLayer& source) const {
    std::vector<MinMaxQuantizationStats> ranges;
    double width = 0;
    for (const FloatOperand& operand : source.operands) {
      ranges.push_back(min_max_stats(values_at(operand.tensor)));
      width = std::max(width, ranges.back().rmax - ranges.back().rmin);
    }
    for (std::size_t i = 0; i < ranges.size(); ++i) {
      QuantizationOptions options;
      options.n_bits = request_.bits.op_inputs;
      options.is_signed = ranges[i].rmin < 0;
      options.is_qat = request_.import_qat;
      layer.operands[i].tensor = source.operands[i].tensor;
      layer.operands[i].quantizer = {
          options, quantization_parameters(options, {ranges[i].rmin, ranges[i].rmin + width})};
    }
  }

  // The layer on the dequantized operands: what the layers behind it are calibrated on.
  FloatTensor output_values(const QuantizedLayer& layer) const {
    Tensor<double> sum;
    for (const QuantizedOperand& operand : layer.operands) {
      const std::vector<std::int64_t> q = operand.quantizer.quantize(values_at(operand.tensor));
      add_product(operand.weight, {q.begin(), q.end()}, sum.data);
    }
    sum.shape = layer.shape;
    sum.shape[0] = static_cast<std::int64_t>(sum.data.size()) / number_of_elements(layer.shape);
    return layer_output(layer, sum);
  }

  static void add_product(const IntegerWeight& weight, std::vector<double> q,
                          std::vector<double>& sum) {
    if (weight.rows == 0) {
      sum.resize(q.size(), 0);
      for (std::size_t i = 0; i < q.size(); ++i)
        sum[i] += static_cast<double>(weight.factor) * q[i];
      return;
    }
    const std::vector<double> w(weight.data.begin(), weight.data.end());
    const auto samples = static_cast<std::int64_t>(q.size()) / weight.columns;
    sum.resize(static_cast<std::size_t>(samples * weight.rows), 0);
    Eigen::Map<Matrix>(sum.data(), samples, weight.rows).noalias() +=
        ConstMatrixMap(q.data(), samples, weight.columns) *
        ConstMatrixMap(w.data(), weight.rows, weight.columns).transpose();
  }

  void quantize_output(const std::string& name) {
    if (const std::optional<FoundQuantizer> found = brought_quantizer(name)) {
      result_.outputs.push_back({found->input, name, found->quantizer});
      return;
    }
    const std::vector<double> values = values_at(name);
    const MinMaxQuantizationStats range = min_max_stats(values);
    QuantizationOptions options;
    options.n_bits = request_.bits.model_outputs;
    options.is_signed = range.rmin < 0;
    result_.outputs.push_back({name, name, {options, quantization_parameters(options, range)}});
  }

  const QuantizationRequest& request_;
  const std::vector<Tensor<double>>& calibration_;
  bool brings_quantizers_ = false;
  std::vector<FloatLayer> float_layers_;
  std::set<std::string> roots_;
  std::map<std::string, FloatTensor> roots_values_;  // on the calibration data
  QuantizedGraph result_;
};

}  // namespace

QuantizedGraph quantize(FloatGraph graph, const std::vector<Tensor<double>>& calibration,
                        const QuantizationRequest& request) {
  check_request(request);
  check_calibration(graph, calibration);
  return Quantization(std::move(graph), calibration, request).run();
}

}  // namespace torusml
