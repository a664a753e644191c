#include "quantization/quantized_graph.h"

#include <fmt/format.h>

#include <Eigen/Core>
#include <algorithm>

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

void add_product(const Weight& weight, const std::vector<double>& x, std::int64_t samples,
                 std::vector<double>& y) {
  std::visit([&](const auto& w) { add(w, x, samples, y); }, weight);
}

}  // namespace torusml
