#include "importer/lift_batch.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <map>
#include <set>

#include "importer/operators.h"
#include "torusml/error.h"

namespace torusml {
namespace {

class Lifting {
 public:
  explicit Lifting(FloatGraph& graph) : graph_(graph) {}

  void run() {
    std::vector<FloatNode> nodes = std::move(graph_.nodes);
    graph_.nodes.clear();
    for (const GraphInput& input : graph_.inputs) {
      dependent_.insert(input.name);
      lifted_[input.name] = reshaped(input.name, graph_.shapes.at(input.name), input.name);
    }
    for (FloatNode& node : nodes) lift(node);
    for (const std::string& output : graph_.outputs) lower(output);
  }

 private:
  using Rule = void (Lifting::*)(FloatNode&);

  static Rule rule_of(const FloatNode& node) {
    static const std::map<std::string, Rule> rules{
        {"MatMul", &Lifting::align},
        {"Gemm", &Lifting::product},
        {"Expand", &Lifting::expand},
        {"Transpose", &Lifting::transpose},
        {"Concat", &Lifting::along_axis},
        {"Split", &Lifting::along_axis},
        {"Gather", &Lifting::along_axis},
        {"ArgMax", &Lifting::along_axis},
        {"ArgMin", &Lifting::along_axis},
        {"TopK", &Lifting::along_axis},
        {"Softmax", &Lifting::along_axis},
        {"LogSoftmax", &Lifting::along_axis},
        {"LayerNormalization", &Lifting::along_axis},
        {"RMSNormalization", &Lifting::along_axis},
        {"Slice", &Lifting::slice},
        {"Trilu", &Lifting::keep},
    };
    const auto found = rules.find(node.op_type);
    if (found != rules.end()) return found->second;
    if (node.op_type.starts_with("Reduce")) return &Lifting::reduce;
    const Operator* op = find_operator(node.domain, node.op_type);
    const bool by_channel = node.op_type == "BatchNormalization" || node.attributes.count("axis");
    if (op && op->role == OperatorRole::elementwise && !by_channel) return &Lifting::align;
    if (op && op->role == OperatorRole::reshaping) return &Lifting::reshape;
    return nullptr;
  }

  void lift(FloatNode& node) {
    const bool is_dependent = std::ranges::any_of(
        node.inputs, [&](const std::string& name) { return dependent_.contains(name); });
    if (!is_dependent) return graph_.nodes.push_back(std::move(node));
    const std::string output = node.outputs[0];
    dependent_.insert(output);
    const Rule rule = node.custom ? nullptr : rule_of(node);
    if (!rule) refuse(node, "this operator in a network that moves the batch axis");
    output_ = &graph_.shapes.at(output);
    operands_ = node.inputs;
    for (std::string& name : node.inputs) {
      if (dependent_.contains(name)) name = lifted_.at(name);
    }
    lifted_[output] = node.outputs[0] = fresh(output);
    (this->*rule)(node);
    graph_.nodes.push_back(std::move(node));
  }

  // An output of the network, with the batch as its first axis.
  void lower(const std::string& output) {
    const Shape& shape = graph_.shapes.at(output);
    if (shape.empty() || shape[0] != 1) {
      throw Error(ErrorCode::not_supported,
                  fmt::format("its first axis is not the batch (shape {})", to_string(shape)),
                  fmt::format("output '{}'", output), "an output with the batch first");
    }
    Shape target = shape;
    target[0] = -1;
    add("Reshape", {lifted_.at(output), constant(output, target)}, output, output);
  }

  [[noreturn]] static void refuse(const FloatNode& node, const std::string& what) {
    throw Error(ErrorCode::not_supported, what, describe(node),
                "a network that keeps the batch as the first axis");
  }

  void keep(FloatNode&) {}

  // An axis of one place may be the batch, over which nothing may be taken together.
  void check_no_batch(const FloatNode& node, std::int64_t axis) const {
    const Shape& shape = graph_.shapes.at(operands_[0]);
    const auto at = normalized_axis(axis, static_cast<std::int64_t>(shape.size()));
    if (shape[static_cast<std::size_t>(at)] == 1)
      refuse(node, fmt::format("an operation along axis {}, which may be the batch", axis));
  }

  // Operands of fewer axes than the result get them behind the batch axis.
  void align(FloatNode& node) {
    if (node.op_type == "MatMul") check_factors(node);
    for (std::size_t i = 0; i < node.inputs.size(); ++i) {
      if (!dependent_.contains(operands_[i])) continue;
      Shape shape = graph_.shapes.at(operands_[i]);
      if (shape.size() >= output_->size()) continue;
      shape.insert(shape.begin(), output_->size() - shape.size(), 1);
      node.inputs[i] = reshaped(node.inputs[i], shape, operands_[i]);
    }
  }

  void check_factors(const FloatNode& node) const {
    for (const std::string& name : operands_) {
      if (dependent_.contains(name) && graph_.shapes.at(name).size() < 2)
        refuse(node, "a product with a vector");
    }
    if (graph_.shapes.at(operands_[0]).back() == 1)
      refuse(node, "a sum of products over an axis that may be the batch");
  }

  void product(FloatNode& node) {
    if (dependent_.contains(operands_[1]) || integer_attribute(node, "transA", 0) != 0)
      refuse(node, "Gemm with an encrypted weight or transA=1");
    FloatTensor weight = graph_.constants.at(node.inputs[1]);
    if (integer_attribute(node, "transB", 0) != 0) {
      const FloatNode turned{"", "Transpose", "", {""}, {""}, {}, nullptr};
      FloatTensor transposed = std::move(evaluate_node(turned, {&weight}).front());
      weight = std::move(transposed);
    }
    const double alpha = number_attribute(node, "alpha", 1);
    for (double& v : weight.values.data) v *= alpha;
    const std::string matrix = constant(node.inputs[1], std::move(weight));
    if (node.inputs.size() > 2 && !node.inputs[2].empty()) {
      FloatTensor bias = graph_.constants.at(node.inputs[2]);
      const double beta = number_attribute(node, "beta", 1);
      for (double& v : bias.values.data) v *= beta;
      const std::string term = constant(node.inputs[2], std::move(bias));
      const std::string product = fresh(node.outputs[0]);
      add("MatMul", {node.inputs[0], matrix}, product, node.name + "/product");
      node.op_type = "Add";
      node.inputs = {product, term};
    } else {
      node.op_type = "MatMul";
      node.inputs = {node.inputs[0], matrix};
    }
    node.attributes.clear();
  }

  void reshape(FloatNode& node) {
    node.op_type = "Reshape";
    Shape target = *output_;
    target.insert(target.begin(), -1);
    node.inputs = {node.inputs[0], constant(operands_[0], target)};
    node.attributes.clear();
  }

  void expand(FloatNode& node) {
    align(node);
    Shape target = *output_;
    target.insert(target.begin(), 1);
    node.inputs[1] = constant(operands_[0], target);
  }

  void transpose(FloatNode& node) {
    std::vector<std::int64_t> order = integers_attribute(node, "perm");
    const auto rank = static_cast<std::int64_t>(output_->size());
    const bool is_reversed = order.empty();
    for (std::int64_t i = rank; is_reversed && i-- > 0;) order.push_back(i);
    for (std::int64_t& axis : order) axis = normalized_axis(axis, rank) + 1;
    order.insert(order.begin(), 0);
    node.attributes["perm"] = order;
  }

  void along_axis(FloatNode& node) {
    const bool all = std::ranges::all_of(
        operands_, [&](const std::string& name) { return dependent_.contains(name); });
    if (node.op_type == "Concat" && !all) refuse(node, "Concat with a constant");
    const bool is_last = node.op_type.ends_with("Normalization") ||
                         node.op_type.ends_with("oftmax") || node.op_type == "TopK";
    const bool flattened = node.attributes.count("flattened") > 0;
    const std::int64_t otherwise = flattened ? 1 : is_last ? -1 : 0;
    const std::int64_t axis = integer_attribute(node, "axis", otherwise);
    if (node.op_type != "Concat") check_no_batch(node, axis);
    node.attributes["axis"] = axis < 0 ? axis : axis + 1;
  }

  std::vector<std::int64_t> shifted(std::vector<std::int64_t> axes) const {
    for (std::int64_t& axis : axes) axis += axis < 0 ? 0 : 1;
    return axes;
  }

  void reduce(FloatNode& node) {
    std::vector<std::int64_t> axes = integers_attribute(node, "axes");
    if (node.inputs.size() > 1 && !node.inputs[1].empty())
      axes = to_integers(graph_.constants.at(node.inputs[1]));
    const auto rank = static_cast<std::int64_t>(graph_.shapes.at(operands_[0]).size());
    const bool all = axes.empty() && integer_attribute(node, "noop_with_empty_axes", 0) == 0;
    for (std::int64_t i = 0; all && i < rank; ++i) axes.push_back(i);
    for (std::int64_t axis : axes) check_no_batch(node, axis);
    node.inputs.resize(1);
    node.attributes["axes"] = shifted(axes);
  }

  void slice(FloatNode& node) {
    std::vector<std::int64_t> axes;
    const std::int64_t count = graph_.shapes.at(node.inputs[1]).at(0);
    if (node.inputs.size() > 3 && !node.inputs[3].empty())
      axes = to_integers(graph_.constants.at(node.inputs[3]));
    else
      for (std::int64_t i = 0; i < count; ++i) axes.push_back(i);
    for (std::int64_t axis : axes) check_no_batch(node, axis);
    if (node.inputs.size() < 4) node.inputs.resize(4);
    node.inputs[3] = constant(operands_[0], shifted(axes));
  }

  // Gives the tensor a shape behind the batch axis.
  std::string reshaped(const std::string& tensor, Shape shape, const std::string& name) {
    shape.insert(shape.begin(), -1);
    const std::string result = fresh(name);
    add("Reshape", {tensor, constant(name, shape)}, result, result);
    return result;
  }

  void add(const std::string& op_type, const std::vector<std::string>& inputs,
           const std::string& output, const std::string& name) {
    graph_.nodes.push_back({name, op_type, "", inputs, {output}, {}, nullptr});
  }

  std::string constant(const std::string& name, const std::vector<std::int64_t>& integers) {
    const Shape shape{static_cast<std::int64_t>(integers.size())};
    return constant(name, {ElementType::integer, {shape, {integers.begin(), integers.end()}}});
  }

  std::string constant(const std::string& name, FloatTensor value) {
    const std::string result = fresh(name);
    graph_.constants[result] = std::move(value);
    return result;
  }

  std::string fresh(const std::string& name) {
    std::string result;
    do {
      result = fmt::format("{}/lifted_{}", name, ++count_);
    } while (graph_.shapes.count(result) > 0);
    return result;
  }

  FloatGraph& graph_;
  std::set<std::string> dependent_;
  std::map<std::string, std::string> lifted_;
  const Shape* output_ = nullptr;      // of the node that is lifted, as traced
  std::vector<std::string> operands_;  // of the node, as traced
  int count_ = 0;
};

}  // namespace

void lift_batch(FloatGraph& graph) { Lifting(graph).run(); }

}  // namespace torusml
