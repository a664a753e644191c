#include "quantization/linear_layers.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "importer/broadcast.h"
#include "importer/operators.h"
#include "torusml/error.h"

namespace torusml {
namespace {

constexpr std::int64_t kMaxProbe = std::int64_t{1} << 26;  // numbers

// result = sum of maps + bias
struct Expression {
  std::vector<FloatTerm> terms;
  std::vector<double> bias;
  std::vector<double> row_scale{1.0};

  void add(const std::string& tensor, FloatMap map) {
    const auto same = std::ranges::find(terms, tensor, &FloatTerm::tensor);
    if (same == terms.end())
      terms.push_back({tensor, std::move(map)});
    else
      same->map = same->map.plus(map);
  }
};

Expression mapped(const FloatMap& map, const Expression& inner, std::vector<double> bias) {
  Expression result;
  result.bias = map.apply(inner.bias);
  for (std::size_t i = 0; i < bias.size(); ++i) result.bias[i] += bias[i];
  for (const FloatTerm& term : inner.terms) result.add(term.tensor, map.after(term.map));
  return result;
}

class Cutter {
 public:
  Cutter(const Network& network, const CutOptions& options)
      : network_(network), options_(options) {}

  std::vector<LinearLayer> run() {
    for (const std::string& output : network_.graph().outputs) {
      if (!network_.is_dependent(output)) {
        throw Error(ErrorCode::not_supported, "an output that does not depend on any input",
                    fmt::format("output '{}'", output));
      }
      need(network_.root(output));
    }
    std::vector<LinearLayer> ordered;
    for (const FloatNode& node : network_.graph().nodes) {
      const auto layer = layers_.find(node.outputs.front());
      if (layer != layers_.end()) ordered.push_back(std::move(layer->second));
    }
    return ordered;
  }

 private:
  // Makes the layer of a root and all that it reads; a stack, since networks
  // may be deep.
  void need(const std::string& first) {
    std::vector<std::string> open{first};
    while (!open.empty()) {
      const std::string root = open.back();
      open.pop_back();
      if (network_.is_input(root) || layers_.contains(root)) continue;
      const LinearLayer& layer = layers_[root] = make(root);
      for (const FloatTerm& term : layer.terms) open.push_back(network_.root(term.tensor));
    }
  }

  LinearLayer make(const std::string& root) {
    const FloatNode& node = *network_.producer(root);
    LinearLayer layer;
    layer.name = node.name;
    layer.output = root;
    layer.custom = node.custom;
    if (node.custom) {
      for (std::size_t i : network_.dependent_inputs(node))
        layer.terms.push_back({node.inputs[i], {}});
      return layer;
    }
    Expression expression = expression_of(root);
    layer.terms = std::move(expression.terms);
    layer.bias = std::move(expression.bias);
    layer.row_scale = std::move(expression.row_scale);
    check_finite(layer, node);
    return layer;
  }

  static void check_finite(const LinearLayer& layer, const FloatNode& node) {
    const auto is_finite = [](double v) { return std::isfinite(v); };
    bool all = std::ranges::all_of(layer.bias, is_finite);
    for (const FloatTerm& term : layer.terms) all &= std::ranges::all_of(term.map.value, is_finite);
    if (!all) {
      throw Error(ErrorCode::non_finite_value, "a weight or a bias is not finite", describe(node));
    }
  }

  // A root's value over operands.
  const Expression& expression_of(const std::string& root) {
    const auto known = expressions_.find(root);
    if (known != expressions_.end()) return known->second;
    const FloatNode& node = *network_.producer(root);
    const std::vector<std::size_t> dependent = network_.dependent_inputs(node);
    Expression result;
    if (node.op_type == "Gemm") {
      result = gemm(node, dependent);
    } else if (node.op_type == "Add" || node.op_type == "Sub") {
      result = sum(node);
    } else {
      if (dependent.size() != 1) {
        throw Error(ErrorCode::not_supported, "a product of two encrypted tensors", describe(node),
                    "a constant weight");
      }
      result = node.op_type == "MatMul"
                   ? matmul(node, dependent[0])
                   : mapped(probe(node, dependent[0], node.inputs), operand(node.inputs[0]), {});
    }
    return expressions_[root] = std::move(result);
  }

  Expression itself(const std::string& tensor) const {
    const std::int64_t elements = network_.elements(tensor);
    Expression result;
    result.add(tensor, FloatMap::identity(elements));
    result.bias.assign(static_cast<std::size_t>(elements), 0.0);
    return result;
  }

  // An operand of a linear operator: itself, or what it is linearly made of.
  Expression operand(const std::string& tensor) {
    if (!network_.is_affine(tensor)) return itself(tensor);
    const std::string& root = network_.root(tensor);
    if (network_.is_input(root)) {
      if (network_.is_plain(tensor)) return itself(root);
      return options_.fold ? affine(tensor, itself(root)) : itself(tensor);
    }
    const FloatNode& node = *network_.producer(root);
    if (node.custom) return itself(tensor);
    if (!options_.fold) {
      const bool moves = node.op_type == "Transpose" || node.op_type == "Expand";
      return moves && network_.is_plain(tensor) ? expression_of(root) : itself(tensor);
    }
    const Expression& inner = expression_of(root);
    if (inner.terms.size() > 1 && !network_.is_read_once(tensor)) return itself(tensor);
    return affine(tensor, inner);
  }

  Expression affine(const std::string& tensor, const Expression& root) const {
    if (network_.is_plain(tensor)) return root;
    AffineFunction function = network_.affine(tensor);
    return mapped(FloatMap::diagonal(std::move(function.slope)), root, std::move(function.offset));
  }

  Expression gemm(const FloatNode& node, const std::vector<std::size_t>& dependent) {
    if (dependent != std::vector<std::size_t>{0}) {
      throw Error(ErrorCode::not_supported, "Gemm with an encrypted weight or bias", describe(node),
                  "a constant weight and bias");
    }
    if (integer_attribute(node, "transA", 0) != 0) {
      throw Error(ErrorCode::not_supported, "Gemm with transA=1", describe(node), "transA=0");
    }
    const double alpha = number_attribute(node, "alpha", 1);
    const double beta = number_attribute(node, "beta", 1);
    std::vector<double> bias;
    if (node.inputs.size() > 2 && !node.inputs[2].empty()) {
      bias = broadcast_to(network_.constant(node.inputs[2], node).values, shape(node));
      for (double& v : bias) v *= beta;
    }
    return with_weight(node, 1, alpha, std::move(bias), [&](const Tensor<double>& weight) {
      return matrix(weight, integer_attribute(node, "transB", 0) != 0, 1);
    });
  }

  Expression matmul(const FloatNode& node, std::size_t encrypted) {
    const std::size_t constant = 1 - encrypted;
    return with_weight(node, constant, 1, {}, [&](const Tensor<double>& weight) {
      const std::int64_t elements = network_.elements(node.inputs[encrypted]);
      if (constant == 1 && weight.shape.size() == 2)
        return matrix(weight, false, elements / weight.shape[0]);
      return probe(node, encrypted, node.inputs, &weight);
    });
  }

  static FloatMap matrix(const Tensor<double>& weight, bool transposed, std::int64_t blocks) {
    const std::int64_t rows = weight.shape[transposed ? 0 : 1];
    const std::int64_t columns = weight.shape[transposed ? 1 : 0];
    if (transposed) return FloatMap::dense(rows, columns, weight.data, blocks);
    std::vector<double> value(weight.data.size());
    for (std::int64_t r = 0; r < rows; ++r) {
      for (std::int64_t c = 0; c < columns; ++c)
        value[static_cast<std::size_t>(r * columns + c)] =
            weight.data[static_cast<std::size_t>(c * rows + r)];
    }
    return FloatMap::dense(rows, columns, std::move(value), blocks);
  }

  // The product with a constant. Weights that are read as integers keep their
  // scale by row.
  template <class MakeMap>
  Expression with_weight(const FloatNode& node, std::size_t constant, double factor,
                         std::vector<double> bias, const MakeMap& make_map) {
    const Expression inner = operand(node.inputs[1 - constant]);
    const Tensor<double>& weight = network_.constant(node.inputs[constant], node).values;
    if (!options_.read_weight) {
      FloatMap map = make_map(weight);
      map.multiply(factor);
      return mapped(map, inner, std::move(bias));
    }
    const IntegerWeight read = options_.read_weight(node, node.inputs[constant]);
    const std::optional<std::vector<double>> scales = make_map(read.scales).shared_by_rows();
    if (!scales) {
      throw Error(ErrorCode::not_supported, "weight scales that differ within an output channel",
                  describe(node), "one scale, or one per output channel");
    }
    Expression result = mapped(make_map(read.integers), inner, std::move(bias));
    result.row_scale = *scales;
    for (double& scale : result.row_scale) scale = scale == 0 ? 1 : scale * factor;
    return result;
  }

  Expression sum(const FloatNode& node) {
    Expression result;
    result.bias.assign(static_cast<std::size_t>(network_.elements(node.outputs[0])), 0.0);
    for (std::size_t i = 0; i < 2; ++i) {
      FloatMap map = FloatMap::identity(network_.elements(node.inputs[i]));
      if (network_.graph().shapes.at(node.inputs[i]) != shape(node)) {
        map = probe(node, i, node.inputs);
      } else if (i == 1 && node.op_type == "Sub") {
        map.multiply(-1);
      }
      const Expression term = mapped(map, operand(node.inputs[i]), {});
      for (std::size_t e = 0; e < result.bias.size(); ++e) result.bias[e] += term.bias[e];
      for (const FloatTerm& part : term.terms) result.add(part.tensor, part.map);
    }
    return result;
  }

  // The linear map of one operand, found by running the operator on every unit
  // vector.
  FloatMap probe(const FloatNode& node, std::size_t position,
                 const std::vector<std::string>& inputs,
                 const Tensor<double>* constant = nullptr) const {
    const std::int64_t in = network_.elements(inputs[position]),
                       out = network_.elements(node.outputs[0]);
    if (static_cast<double>(in) * static_cast<double>(std::max(in, out)) > double(kMaxProbe)) {
      throw Error(ErrorCode::not_supported,
                  fmt::format("this operator on encrypted tensors of {} elements", in),
                  describe(node), "tensors of at most 8192 elements");
    }
    std::vector<FloatTensor> values;
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      const bool is_encrypted = network_.is_dependent(inputs[i]);
      if (i == position) {
        values.push_back(unit_vectors(network_.graph().shapes.at(inputs[i]), in));
      } else if (is_encrypted) {
        const Shape& other = network_.graph().shapes.at(inputs[i]);
        values.push_back({ElementType::floating,
                          {other, std::vector<double>(
                                      static_cast<std::size_t>(number_of_elements(other)), 0.0)}});
      } else {
        values.push_back(constant ? FloatTensor{ElementType::floating, *constant}
                                  : network_.constant(inputs[i], node));
      }
    }
    std::vector<const FloatTensor*> operands;
    for (const FloatTensor& value : values) operands.push_back(&value);
    const std::vector<double> columns = evaluate_node(node, operands).front().values.data;
    std::vector<double> rows(columns.size());
    for (std::int64_t c = 0; c < in; ++c) {
      for (std::int64_t r = 0; r < out; ++r)
        rows[static_cast<std::size_t>(r * in + c)] = columns[static_cast<std::size_t>(c * out + r)];
    }
    return FloatMap::from_matrix(out, in, rows);
  }

  static FloatTensor unit_vectors(Shape shape, std::int64_t elements) {
    shape[0] = elements;
    FloatTensor result{ElementType::floating, {std::move(shape), {}}};
    result.values.data.assign(static_cast<std::size_t>(elements * elements), 0.0);
    for (std::int64_t i = 0; i < elements; ++i)
      result.values.data[static_cast<std::size_t>(i * elements + i)] = 1;
    return result;
  }

  const Shape& shape(const FloatNode& node) const {
    return network_.graph().shapes.at(node.outputs[0]);
  }

  const Network& network_;
  const CutOptions& options_;
  std::map<std::string, Expression> expressions_;
  std::map<std::string, LinearLayer> layers_;
};

}  // namespace

std::vector<LinearLayer> linear_layers(const Network& network, const CutOptions& options) {
  return Cutter(network, options).run();
}

}  // namespace torusml
