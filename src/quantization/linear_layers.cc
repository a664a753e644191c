#include "quantization/linear_layers.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "importer/broadcast.h"
#include "importer/operators.h"
#include "importer/resizing.h"
#include "quantization/own_quantizers.h"
#include "quantization/window_maps.h"
#include "torusml/error.h"

namespace torusml {
namespace {

constexpr std::int64_t kMaxProbe = std::int64_t{1} << 26;  // numbers
constexpr int kShareBits = 8;  // of what a Resize multiplies neighbours by

// result = sum of maps + bias
struct Expression {
  std::vector<FloatTerm> terms;
  std::vector<double> bias;
  std::vector<double> row_scale{1.0};

  bool has_one_scale() const {
    return std::ranges::all_of(row_scale, [&](double scale) { return scale == row_scale[0]; });
  }

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
    drop_cancelled(layer);
    return layer;
  }

  // Terms that add nothing: the larger of two, a + relu(b - a), and the smaller, b - relu(b - a),
  // add up to a + b. A zero in place of what rounding left of the others.
  static void drop_cancelled(LinearLayer& layer) {
    constexpr double kRounding = 1e-13;
    double largest = 0;
    for (const FloatTerm& term : layer.terms) {
      for (const double value : term.map.value) largest = std::max(largest, std::abs(value));
    }
    const auto adds_nothing = [&](const FloatTerm& term) {
      return std::ranges::all_of(
          term.map.value, [&](double value) { return std::abs(value) <= kRounding * largest; });
    };
    if (!std::ranges::all_of(layer.terms, adds_nothing)) std::erase_if(layer.terms, adds_nothing);
    for (FloatTerm& term : layer.terms) {
      for (double& value : term.map.value)
        value = std::abs(value) <= kRounding * largest ? 0 : value;
    }
  }

  static void check_finite(const LinearLayer& layer, const FloatNode& node) {
    const auto is_finite = [](double v) { return std::isfinite(v); };
    bool all = std::ranges::all_of(layer.bias, is_finite);
    for (const FloatTerm& term : layer.terms) all &= std::ranges::all_of(term.map.value, is_finite);
    if (!all) {
      throw Error(ErrorCode::non_finite_value, "a weight or a bias is not finite", describe(node));
    }
  }

  static void check_weight(const std::vector<double>& weight, const std::string& name,
                           const FloatNode& node) {
    const auto broken = std::ranges::find_if(weight, [](double v) { return !std::isfinite(v); });
    if (broken != weight.end()) {
      throw Error(
          ErrorCode::non_finite_value,
          fmt::format("element {} of weight '{}' is {}", broken - weight.begin(), name, *broken),
          describe(node), "train the network again, with a smaller learning rate");
    }
    if (std::ranges::all_of(weight, [](double v) { return v == 0; })) {
      throw Error(ErrorCode::invalid_model,
                  fmt::format("all {} weights of '{}' are 0: the layer does not read its input",
                              weight.size(), name),
                  describe(node), "a network that was trained, with less pruning");
    }
  }

  // A root's value over operands.
  const Expression& expression_of(const std::string& root) {
    const auto known = expressions_.find(root);
    if (known != expressions_.end()) return known->second;
    const FloatNode& node = *network_.producer(root);
    const std::vector<std::size_t> dependent = network_.dependent_inputs(node);
    return expressions_[root] = expression_of(node, dependent);
  }

  Expression expression_of(const FloatNode& node, const std::vector<std::size_t>& dependent) {
    if (node.op_type == "Gemm") return gemm(node, dependent);
    if (node.op_type == "Add" || node.op_type == "Sub") return sum(node);
    if (moves_elements(node)) return moved(node, dependent);
    if (dependent.size() != 1) {
      throw Error(ErrorCode::not_supported, "a product of two encrypted tensors", describe(node),
                  "a constant weight");
    }
    if (node.op_type == "MatMul") return matmul(node, dependent[0]);
    if (is_linear_resize(node)) return resized(node);
    if (node.op_type.starts_with("Conv")) return convolution(node);
    return averages(node);
  }

  Expression itself(const std::string& tensor) const {
    const std::int64_t elements = network_.elements(tensor);
    Expression result;
    result.add(tensor, FloatMap::identity(elements));
    result.bias.assign(static_cast<std::size_t>(elements), 0.0);
    return result;
  }

  // An operand of a linear operator: itself, or what it is linearly made of. Only with takes_scale
  // its row_scale may be another number than 1.
  Expression operand(const std::string& tensor, bool takes_scale = false) {
    if (!network_.is_affine(tensor) || options_.rules.is_read_as_it_is(tensor))
      return itself(tensor);
    const std::string& root = network_.root(tensor);
    const bool is_maximum = options_.rules.maxima.contains(root);
    if (network_.is_input(root)) {
      if (network_.is_plain(tensor)) return itself(root);
      return options_.fold ? affine(tensor, itself(root)) : itself(tensor);
    }
    const FloatNode& node = *network_.producer(root);
    if (node.custom) return itself(tensor);
    if (!options_.fold) {
      const bool passes_on =
          is_maximum || moves_elements(node) || (takes_scale && averages_elements(node));
      if (!passes_on || !network_.is_plain(tensor)) return itself(tensor);
      const Expression& inner = expression_of(root);
      return inner.has_one_scale() ? inner : itself(tensor);
    }
    const Expression& inner = expression_of(root);
    if (inner.terms.size() > 1 && !is_maximum && !network_.is_read_once(tensor))
      return itself(tensor);
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
      return probe(node, encrypted, &weight);
    });
  }

  Expression convolution(const FloatNode& node) {
    std::vector<double> bias;
    if (node.inputs.size() > 2 && !node.inputs[2].empty()) {
      const Tensor<double>& given = network_.constant(node.inputs[2], node).values;
      const std::int64_t places = number_of_elements(shape(node)) / shape(node)[1];
      for (double b : given.data) bias.insert(bias.end(), static_cast<std::size_t>(places), b);
    }
    return with_weight(node, 1, 1, std::move(bias), [&](const Tensor<double>& weight) {
      const Shape& operand = network_.graph().shapes.at(node.inputs[0]);
      return node.op_type == "Conv" ? convolution_map(node, operand, weight)
                                    : transposed_convolution_map(node, operand, weight);
    });
  }

  Operands constant_operands(const FloatNode& node) const {
    Operands operands(node.inputs.size(), nullptr);
    for (std::size_t i = 1; i < node.inputs.size(); ++i) {
      if (!node.inputs[i].empty()) operands[i] = &network_.constant(node.inputs[i], node);
    }
    return operands;
  }

  // Weights that are integers keep to the grid on which the shares of neighbours lie.
  Expression resized(const FloatNode& node) {
    FloatMap map =
        resize_map(node, constant_operands(node), network_.graph().shapes.at(node.inputs[0]));
    const Expression inner = operand(node.inputs[0], true);
    if (!options_.read_weight || options_.rules.made.contains(node.outputs[0]))
      return mapped(map, inner, {});
    const std::optional<UniformQuantizer> grid = grid_quantizer(map.value, kShareBits);
    if (!grid) {
      throw Error(ErrorCode::not_supported,
                  fmt::format("shares of neighbours that are not multiples of one step in {} bits",
                              kShareBits),
                  describe(node), "a Resize by a factor of 2 or 4, or of mode nearest");
    }
    const double step = grid->parameters().scale[0];
    for (double& value : map.value) value = std::nearbyint(value / step);
    const auto rows = static_cast<std::size_t>(map.outputs());
    return in_steps(mapped(map, inner, {}), std::vector<double>(rows, step), inner);
  }

  // Sums of elements, divided by what the rows' scales say where weights are integers.
  Expression averages(const FloatNode& node) {
    const Shape& operand_shape = network_.graph().shapes.at(node.inputs[0]);
    FloatMap map = node.op_type == "AveragePool"
                       ? average_pool_map(node, operand_shape)
                       : reduction_map(node, constant_operands(node), operand_shape);
    const Expression inner = operand(node.inputs[0], true);
    const bool is_calibrated = options_.rules.made.contains(node.outputs[0]);
    if (!options_.read_weight || is_calibrated) return mapped(map, inner, {});
    std::optional<std::vector<double>> scales = map.magnitude_of_rows();
    std::ranges::fill(map.value, 1.0);
    return in_steps(mapped(map, inner, {}), *std::move(scales), inner);
  }

  // A map of integers of which one unit is worth `scales`.
  static Expression in_steps(Expression result, std::vector<double> scales,
                             const Expression& inner) {
    for (std::size_t i = 0; i < result.bias.size(); ++i) result.bias[i] *= scales[i];
    for (double& scale : scales) scale *= inner.row_scale[0];
    result.row_scale = std::move(scales);
    return result;
  }

  // Each operand's elements where the operator puts them, which it shows on their numbers.
  Expression moved(const FloatNode& node, const std::vector<std::size_t>& dependent) {
    Expression result;
    const std::vector<double> between = evaluate_on(node, {}).values.data;
    result.bias = between;
    for (std::size_t position : dependent) {
      const std::int64_t elements = network_.elements(node.inputs[position]);
      Tensor<double> numbers{network_.graph().shapes.at(node.inputs[position]), {}};
      for (std::int64_t i = 1; i <= elements; ++i) numbers.data.push_back(static_cast<double>(i));
      const std::vector<double> places = evaluate_on(node, {{position, numbers}}).values.data;
      FloatRows rows(elements);
      for (std::size_t e = 0; e < places.size(); ++e) {
        const double number = places[e] - between[e];
        if (number > 0) rows.add(static_cast<std::int64_t>(number) - 1, 1);
        rows.end_row();
      }
      const Expression term = mapped(rows.finish(), operand(node.inputs[position]), {});
      for (std::size_t e = 0; e < result.bias.size(); ++e) result.bias[e] += term.bias[e];
      for (const FloatTerm& part : term.terms) result.add(part.tensor, part.map);
    }
    return result;
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
    const Expression inner = operand(node.inputs[1 - constant], true);
    const Tensor<double>& weight = network_.constant(node.inputs[constant], node).values;
    check_weight(weight.data, node.inputs[constant], node);
    if (!options_.read_weight) {
      FloatMap map = make_map(weight);
      map.multiply(factor);
      return mapped(map, inner, std::move(bias));
    }
    const IntegerWeight read = options_.read_weight(node, node.inputs[constant]);
    std::optional<std::vector<double>> scales = make_map(read.scales).shared_by_rows();
    if (!scales) {
      throw Error(ErrorCode::not_supported, "weight scales that differ within an output channel",
                  describe(node), "one scale, or one per output channel");
    }
    for (double& scale : *scales) scale = scale == 0 ? 1 : scale * factor;
    Expression result =
        in_steps(mapped(make_map(read.integers), inner, {}), *std::move(scales), inner);
    for (std::size_t i = 0; i < bias.size(); ++i) result.bias[i] += bias[i];
    return result;
  }

  Expression sum(const FloatNode& node) {
    Expression result;
    result.bias.assign(static_cast<std::size_t>(network_.elements(node.outputs[0])), 0.0);
    for (std::size_t i = 0; i < 2; ++i) {
      FloatMap map = FloatMap::identity(network_.elements(node.inputs[i]));
      if (network_.graph().shapes.at(node.inputs[i]) != shape(node)) {
        map = probe(node, i);
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
                 const Tensor<double>* constant = nullptr) const {
    const std::int64_t in = network_.elements(node.inputs[position]),
                       out = network_.elements(node.outputs[0]);
    if (static_cast<double>(in) * static_cast<double>(std::max(in, out)) > double(kMaxProbe)) {
      throw Error(ErrorCode::not_supported,
                  fmt::format("this operator on encrypted tensors of {} elements", in),
                  describe(node), "tensors of at most 8192 elements");
    }
    const Tensor<double> units =
        unit_vectors(network_.graph().shapes.at(node.inputs[position]), in).values;
    const std::vector<double> columns =
        evaluate_on(node, {{position, units}}, constant).values.data;
    std::vector<double> rows(columns.size());
    for (std::int64_t c = 0; c < in; ++c) {
      for (std::int64_t r = 0; r < out; ++r)
        rows[static_cast<std::size_t>(r * in + c)] = columns[static_cast<std::size_t>(c * out + r)];
    }
    return FloatMap::from_matrix(out, in, rows);
  }

  // The node's result where the given operands have these values, and other encrypted ones are 0.
  // `constant` replaces its constant operands.
  FloatTensor evaluate_on(const FloatNode& node, const std::map<std::size_t, Tensor<double>>& given,
                          const Tensor<double>* constant = nullptr) const {
    std::vector<FloatTensor> values(node.inputs.size());
    std::vector<const FloatTensor*> operands;
    for (std::size_t i = 0; i < node.inputs.size(); ++i) {
      const std::string& name = node.inputs[i];
      operands.push_back(name.empty() ? nullptr : &values[i]);
      if (name.empty()) continue;
      if (given.contains(i)) {
        values[i].values = given.at(i);
      } else if (network_.is_dependent(name)) {
        const auto zeros = static_cast<std::size_t>(network_.elements(name));
        values[i].values = {network_.graph().shapes.at(name), std::vector<double>(zeros, 0.0)};
      } else if (constant) {
        values[i].values = *constant;
      } else {
        values[i] = network_.constant(name, node);
      }
    }
    return evaluate_node(node, operands).front();
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
