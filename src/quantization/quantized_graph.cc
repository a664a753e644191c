#include "quantization/quantized_graph.h"

#include <fmt/format.h>

#include <Eigen/Core>
#include <algorithm>
#include <map>

#include "torusml/error.h"

namespace torusml {
namespace {

using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using ConstMatrixMap = Eigen::Map<const Matrix>;

void add(const DenseWeight& weight, const std::vector<double>& x, std::int64_t,
         std::vector<double>& y) {
  const std::vector<double> w(weight.data.begin(), weight.data.end());
  const auto blocks = static_cast<std::int64_t>(x.size()) / weight.columns;
  Eigen::Map<Matrix>(y.data(), blocks, weight.rows).noalias() +=
      ConstMatrixMap(x.data(), blocks, weight.columns) *
      ConstMatrixMap(w.data(), weight.rows, weight.columns).transpose();
}

void add(const SparseWeight& weight, const std::vector<double>& x, std::int64_t samples,
         std::vector<double>& y) {
  for (std::int64_t s = 0; s < samples; ++s) {
    const double* in = x.data() + s * weight.columns;
    double* out = y.data() + s * weight.rows;
    for (std::int64_t row = 0; row < weight.rows; ++row) {
      weight.row(row).for_each([&](std::int64_t column, std::int64_t value) {
        out[row] += static_cast<double>(value) * in[column];
      });
    }
  }
}

void add(const ScaleWeight& weight, const std::vector<double>& x, std::int64_t,
         std::vector<double>& y) {
  for (std::size_t i = 0; i < y.size(); ++i) y[i] += static_cast<double>(weight.factor) * x[i];
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

FloatTensor layer_output(const QuantizedLayer& layer, const Tensor<double>& accumulators,
                         const Shape& shape) {
  FloatTensor result;
  if (layer.custom) {
    result = layer.custom->apply_tail(accumulators, layer.custom_inputs);
    if (result.values.data.size() != accumulators.data.size()) {
      throw Error(ErrorCode::wrong_shape,
                  fmt::format("a custom operator made {} floats of {} accumulators",
                              result.values.data.size(), accumulators.data.size()),
                  fmt::format("layer '{}'", layer.name));
    }
  } else {
    result.values = accumulators;
    const auto elements = static_cast<std::size_t>(number_of_elements(layer.shape));
    std::vector<double> slope(elements), offset(elements);
    for (std::size_t e = 0; e < elements; ++e) {
      slope[e] = layer.scale[e % layer.scale.size()];
      offset[e] = static_cast<double>(layer.zero[e % layer.zero.size()]);
    }
    std::vector<double>& y = result.values.data;
    for (std::size_t first = 0; first < y.size(); first += elements) {
      for (std::size_t e = 0; e < elements; ++e)
        y[first + e] = slope[e] * (y[first + e] - offset[e]);
    }
    for (std::size_t e = 0; e < elements; ++e) offset[e] = layer.bias[e % layer.bias.size()];
    for (std::size_t first = 0; first < y.size(); first += elements) {
      for (std::size_t e = 0; e < elements; ++e) y[first + e] += offset[e];
    }
  }
  const std::int64_t batch = accumulators.shape.at(0);
  result.values.shape = shape;
  result.values.shape.at(0) = batch;
  return result;
}

FloatTensor layer_output(const QuantizedLayer& layer,
                         const std::vector<std::vector<double>>& operands, std::int64_t samples,
                         const Shape& shape) {
  const auto elements = static_cast<std::size_t>(number_of_elements(layer.shape));
  Tensor<double> sums{layer.shape,
                      std::vector<double>(static_cast<std::size_t>(samples) * elements)};
  sums.shape[0] = samples;
  for (std::size_t i = 0; i < sums.data.size() && !layer.integer_bias.empty(); ++i)
    sums.data[i] = static_cast<double>(layer.integer_bias[i % elements]);
  for (std::size_t i = 0; i < layer.operands.size(); ++i) {
    const std::vector<std::int64_t> q = layer.operands[i].quantizer.quantize(operands[i]);
    add_product(layer.operands[i].weight, {q.begin(), q.end()}, samples, sums.data);
  }
  return layer_output(layer, sums, shape);
}

std::vector<std::vector<double>> evaluate_quantized(const QuantizedGraph& quantized,
                                                    const std::vector<Tensor<double>>& inputs) {
  std::map<std::string, FloatTensor> values;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const UniformQuantizer& q = quantized.inputs[i].quantizer;
    values[quantized.inputs[i].name] = {
        ElementType::floating, {inputs[i].shape, q.dequantize(q.quantize(inputs[i].data))}};
  }
  const std::set<std::string> roots = quantized.roots();
  const auto at = [&](const std::string& tensor) {
    const ElementwiseTail tail = elementwise_tail(quantized.graph, tensor, roots);
    return evaluate_tail(quantized.graph, tail, values.at(tail.root)).values.data;
  };
  const std::int64_t samples = inputs.at(0).shape[0];
  for (const QuantizedLayer& layer : quantized.layers) {
    std::vector<std::vector<double>> operands;
    for (const QuantizedOperand& operand : layer.operands) operands.push_back(at(operand.tensor));
    values[layer.output] =
        layer_output(layer, operands, samples, quantized.graph.shapes.at(layer.output));
  }
  std::vector<std::vector<double>> outputs;
  for (const QuantizedOutput& output : quantized.outputs) {
    outputs.push_back(at(output.name));
    if (output.is_table())
      outputs.back() = output.quantizer.dequantize(output.quantizer.quantize(outputs.back()));
  }
  return outputs;
}

void add_product(const Weight& weight, const std::vector<double>& x, std::int64_t samples,
                 std::vector<double>& y) {
  std::visit([&](const auto& w) { add(w, x, samples, y); }, weight);
}

}  // namespace torusml
