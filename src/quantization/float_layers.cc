#include "quantization/float_layers.h"

#include <fmt/format.h>

#include <Eigen/Core>
#include <algorithm>
#include <map>
#include <set>

#include "importer/custom_operator.h"
#include "quantization/quantized_graph.h"
#include "quantization/quantizer_nodes.h"
#include "torusml/error.h"

namespace torusml {
namespace {

using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

std::string where(const FloatNode& node) {
  return fmt::format("node '{}' ({})", node.name, node.op_type);
}

double attribute(const FloatNode& node, const char* name, double fallback) {
  const auto found = node.attributes.find(name);
  if (found == node.attributes.end()) return fallback;
  if (const auto* whole = std::get_if<std::int64_t>(&found->second))
    return static_cast<double>(*whole);
  return std::get<double>(found->second);
}

class LayerCutter {
 public:
  explicit LayerCutter(const FloatGraph& graph) : graph_(graph) {
    for (const GraphInput& input : graph.inputs) roots_.insert(input.name);
    // Constants, quantized weights among them, do not depend on the inputs' values.
    std::vector<Tensor<double>> zeros;
    for (const GraphInput& input : graph.inputs) {
      zeros.push_back(
          {input.shape,
           std::vector<double>(static_cast<std::size_t>(number_of_elements(input.shape)), 0.0)});
    }
    constants_ = evaluate(graph, zeros);
  }

  std::vector<FloatLayer> run() {
    for (const FloatNode& node : graph_.nodes) {
      if (node.outputs.empty() || !depends_on_input(graph_, node.outputs[0])) continue;
      std::optional<FloatLayer> layer = cut(node);
      if (!layer) continue;
      layer->name = node.name;
      layer->op_type = node.op_type;
      layer->output = node.outputs[0];
      roots_.insert(layer->output);
      layers_.push_back(*std::move(layer));
    }
    return std::move(layers_);
  }

 private:
  std::optional<FloatLayer> cut(const FloatNode& node) {
    if (node.custom) {
      if (node.custom->is_univariate()) return std::nullopt;
      FloatLayer layer;
      layer.custom = node.custom;
      for (const std::string& input : node.inputs) layer.operands.push_back({input, {}, 1, {}});
      return layer;
    }
    if (node.op_type == "Gemm") return gemm(node);
    if (node.op_type == "MatMul") return matmul(node);
    if (node.op_type == "Add" || node.op_type == "Sub") return sum(node);
    return std::nullopt;
  }

  const Tensor<double>& constant(const FloatNode& node, std::size_t input) const {
    if (depends_on_input(graph_, node.inputs[input])) {
      throw Error(ErrorCode::not_supported, "a product of two encrypted tensors", where(node),
                  "a constant weight");
    }
    return constants_.at(node.inputs[input]).values;
  }

  FloatLayer linear(const FloatNode& node, Matrix weight) const {
    FloatLayer layer;
    FloatOperand operand;
    operand.tensor = node.inputs[0];
    operand.weight = {{weight.rows(), weight.cols()},
                      {weight.data(), weight.data() + weight.size()}};
    operand.scales = weight_scales(graph_, node.inputs[1]);
    layer.operands.push_back(std::move(operand));
    return layer;
  }

  static Matrix matrix(const Tensor<double>& tensor, bool transposed, const FloatNode& node) {
    if (tensor.shape.size() != 2) {
      throw Error(ErrorCode::not_supported,
                  fmt::format("a weight of shape {}", to_string(tensor.shape)), where(node),
                  "a matrix");
    }
    const Matrix m = Eigen::Map<const Matrix>(tensor.data.data(), tensor.shape[0], tensor.shape[1]);
    return transposed ? m : Matrix(m.transpose());
  }

  FloatLayer gemm(const FloatNode& node) {
    if (attribute(node, "transA", 0) != 0)
      throw Error(ErrorCode::not_supported, "Gemm with transA=1", where(node));
    const Tensor<double>& b = constant(node, 1);
    const double alpha = attribute(node, "alpha", 1), beta = attribute(node, "beta", 1);
    FloatLayer layer = linear(node, alpha * matrix(b, attribute(node, "transB", 0) != 0, node));
    for (double& scale : layer.operands[0].scales) scale *= alpha;
    if (node.inputs.size() > 2 && !node.inputs[2].empty() && beta != 0) {
      const std::vector<double>& c = constant(node, 2).data;
      const auto rows = static_cast<std::size_t>(layer.operands[0].weight.shape[0]);
      if (c.size() != 1 && c.size() != rows) {
        throw Error(ErrorCode::not_supported,
                    fmt::format("a bias of {} elements for {} channels", c.size(), rows),
                    where(node));
      }
      for (std::size_t r = 0; r < rows; ++r) layer.bias.push_back(beta * c[r % c.size()]);
    }
    return layer;
  }

  FloatLayer matmul(const FloatNode& node) {
    if (!depends_on_input(graph_, node.inputs[0])) {
      throw Error(ErrorCode::not_supported, "MatMul with the constant on the left", where(node),
                  "x @ W");
    }
    return linear(node, matrix(constant(node, 1), false, node));
  }

  // Of two tensors with one elementwise root (a residual x + f(x), say) it is a table; else it
  // mixes.
  std::optional<FloatLayer> sum(const FloatNode& node) {
    for (const std::string& input : node.inputs) {
      if (!depends_on_input(graph_, input)) return std::nullopt;
    }
    try {
      elementwise_tail(graph_, node.outputs[0], roots_);
      return std::nullopt;
    } catch (const Error&) {
      // Two roots: a sum of encrypted tensors.
    }
    if (graph_.shapes.at(node.inputs[0]) != graph_.shapes.at(node.inputs[1])) {
      throw Error(ErrorCode::not_supported,
                  fmt::format("a sum of encrypted tensors of shapes {} and {}",
                              to_string(graph_.shapes.at(node.inputs[0])),
                              to_string(graph_.shapes.at(node.inputs[1]))),
                  where(node), "equal shapes");
    }
    FloatLayer layer;
    layer.operands = {{node.inputs[0], {}, 1, {}},
                      {node.inputs[1], {}, node.op_type == "Sub" ? -1.0 : 1.0, {}}};
    return layer;
  }

  const FloatGraph& graph_;
  std::set<std::string> roots_;
  std::map<std::string, FloatTensor> constants_;
  std::vector<FloatLayer> layers_;
};

// Folds what stands between `layer` and the root of its only operand into the layer, if that is
// affine.
class LayerFolder {
 public:
  LayerFolder(const FloatGraph& graph, std::vector<FloatLayer> layers)
      : graph_(graph), layers_(std::move(layers)) {}

  std::vector<FloatLayer> run() {
    for (std::size_t i = 0; i < layers_.size(); ++i) {
      while (is_matrix(layers_[i]) && fold(i)) {
      }
    }
    std::erase_if(layers_, [&](const FloatLayer& layer) { return folded_.contains(layer.output); });
    return std::move(layers_);
  }

 private:
  static bool is_matrix(const FloatLayer& layer) {
    return layer.operands.size() == 1 && !layer.operands[0].weight.data.empty();
  }

  bool fold(std::size_t index) {
    FloatLayer& layer = layers_[index];
    FloatOperand& operand = layer.operands[0];
    const ElementwiseTail tail =
        elementwise_tail(graph_, operand.tensor, layer_roots(graph_, layers_));
    const auto inner =
        std::ranges::find_if(layers_, [&](const FloatLayer& l) { return l.output == tail.root; });
    const bool from_layer = inner != layers_.end();
    if (tail.root == operand.tensor && !from_layer) return false;
    if (from_layer && (!is_matrix(*inner) || uses(tail.root) != 1)) return false;
    const std::optional<AffineTail> affine = affine_tail(graph_, tail);
    const std::int64_t columns = operand.weight.shape[1];
    // The same shape on both sides, so that the last axis is the same, and one slope per channel of
    // it.
    if (!affine || graph_.shapes.at(tail.root) != graph_.shapes.at(operand.tensor)) return false;
    for (std::size_t i = 0; i < affine->slope.size(); ++i) {
      const std::size_t channel = i % static_cast<std::size_t>(columns);
      if (affine->slope[i] != affine->slope[channel] ||
          affine->offset[i] != affine->offset[channel])
        return false;
    }
    apply(layer, *affine);
    if (from_layer)
      compose(layer, *inner);
    else
      operand.tensor = tail.root;
    return true;
  }

  // How many layers and outputs of the network hang on a root.
  std::int64_t uses(const std::string& root) const {
    const std::set<std::string> roots = layer_roots(graph_, layers_);
    std::int64_t count = 0;
    const auto hangs = [&](const std::string& tensor) {
      return elementwise_tail(graph_, tensor, roots).root == root;
    };
    for (const FloatLayer& layer : layers_) {
      if (folded_.contains(layer.output)) continue;
      for (const FloatOperand& operand : layer.operands) count += hangs(operand.tensor);
    }
    for (const std::string& output : graph_.outputs) count += hangs(output);
    return count;
  }

  static Eigen::Map<Matrix> weight_of(FloatOperand& operand) {
    return {operand.weight.data.data(), operand.weight.shape[0], operand.weight.shape[1]};
  }

  static void apply(FloatLayer& layer, const AffineTail& affine) {
    Eigen::Map<Matrix> weight = weight_of(layer.operands[0]);
    const Eigen::Map<const Eigen::VectorXd> slope(affine.slope.data(), weight.cols());
    const Eigen::Map<const Eigen::VectorXd> offset(affine.offset.data(), weight.cols());
    if (!offset.isZero(0)) {
      layer.bias.resize(static_cast<std::size_t>(weight.rows()), 0);
      Eigen::Map<Eigen::VectorXd>(layer.bias.data(), weight.rows()) += weight * offset;
    }
    weight = Matrix(weight * slope.asDiagonal());
  }

  void compose(FloatLayer& layer, FloatLayer& inner) {
    const Matrix outer = weight_of(layer.operands[0]);
    if (!inner.bias.empty()) {
      layer.bias.resize(static_cast<std::size_t>(outer.rows()), 0);
      Eigen::Map<Eigen::VectorXd>(layer.bias.data(), outer.rows()) +=
          outer * Eigen::Map<const Eigen::VectorXd>(inner.bias.data(), outer.cols());
    }
    const Matrix product = outer * weight_of(inner.operands[0]);
    layer.operands[0].weight = {{product.rows(), product.cols()},
                                {product.data(), product.data() + product.size()}};
    layer.operands[0].tensor = inner.operands[0].tensor;
    folded_.insert(inner.output);
  }

  const FloatGraph& graph_;
  std::vector<FloatLayer> layers_;
  std::set<std::string> folded_;
};

}  // namespace

std::set<std::string> layer_roots(const FloatGraph& graph, const std::vector<FloatLayer>& layers) {
  std::set<std::string> roots;
  for (const GraphInput& input : graph.inputs) roots.insert(input.name);
  for (const FloatLayer& layer : layers) roots.insert(layer.output);
  return roots;
}

std::vector<FloatLayer> cut_layers(const FloatGraph& graph) { return LayerCutter(graph).run(); }

std::vector<FloatLayer> fold_linear_layers(const FloatGraph& graph,
                                           std::vector<FloatLayer> layers) {
  return LayerFolder(graph, std::move(layers)).run();
}

}  // namespace torusml
