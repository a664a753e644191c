#include "quantization/graph_rewriter.h"

#include <fmt/format.h>

#include <algorithm>
#include <list>

#include "importer/evaluation.h"
#include "importer/operators.h"
#include "quantization/decompositions.h"
#include "quantization/network.h"
#include "torusml/error.h"

namespace torusml {

GraphRewriter::GraphRewriter(FloatGraph& graph, const std::vector<Tensor<double>>& calibration,
                             int bits)
    : graph_(graph), calibration_(calibration), bits_(bits) {
  graph_.nodes.clear();
  for (const GraphInput& input : graph_.inputs) {
    roots_[input.name] = input.name;
    types_[input.name] = input.type;
    plain_inputs_.insert(input.name);
  }
}

void GraphRewriter::emit(FloatNode node) {
  const std::string output = node.outputs.front();
  sources_[output] = node;
  if (depth_ > 0) rules_.made.insert(output);
  const Decomposition decomposition = find_decomposition(*this, node);
  if (!decomposition) return keep(std::move(node));
  if (depth_++ == 0) {
    node_name_ = node.name;
    tensor_name_ = output;
    nodes_ = tensors_ = 0;
    rules_.made.insert(output);
  }
  try {
    const std::string result = decomposition(*this, node);
    keep({node.name, "Identity", "", {result}, {output}, {}, nullptr});
  } catch (const Error& error) {
    if (!error.where().empty()) throw;
    throw Error(error.code(), error.message(), describe(node), error.hint());
  }
  --depth_;
}

std::string GraphRewriter::add(const std::string& op_type, const std::vector<std::string>& inputs,
                               const std::map<std::string, Attribute>& attributes) {
  return add({"", op_type, "", inputs, {}, attributes, nullptr});
}

std::string GraphRewriter::apply(std::shared_ptr<const CustomOperator> function,
                                 const std::string& name, const std::string& tensor) {
  return add({"", name, "", {tensor}, {}, {}, std::move(function)});
}

std::string GraphRewriter::add(FloatNode node) {
  const std::string output = fresh();
  node.name = fmt::format("{}/{}", node_name_, ++nodes_);
  node.outputs = {output};
  // The shape is known before the node is looked at.
  FloatTensor result = shape_run(node);
  graph_.shapes[output] = std::move(result.values.shape);
  emit(std::move(node));
  return output;
}

std::string GraphRewriter::constant(Tensor<double> values) {
  const std::string name = fresh();
  graph_.shapes[name] = values.shape;
  graph_.constants[name] = {ElementType::floating, std::move(values)};
  return name;
}

std::string GraphRewriter::integers(const std::vector<std::int64_t>& values) {
  const std::string name =
      constant({{static_cast<std::int64_t>(values.size())}, {values.begin(), values.end()}});
  graph_.constants[name].type = ElementType::integer;
  return name;
}

std::string GraphRewriter::reshaped(const std::string& tensor, const Shape& to) {
  if (shape(tensor) == to) return tensor;
  std::vector<std::int64_t> target = to;
  target[0] = -1;
  return add("Reshape", {tensor, integers(target)});
}

std::string GraphRewriter::expanded(const std::string& tensor, const Shape& to) {
  if (shape(tensor) == to) return tensor;
  std::vector<std::int64_t> target = to;
  target[0] = 1;
  return add("Expand", {tensor, integers(target)});
}

std::string GraphRewriter::part(const std::string& tensor, std::int64_t axis, std::int64_t first,
                                std::int64_t count, std::int64_t step) {
  std::vector<std::int64_t> indices;
  for (std::int64_t i = 0; i < count; ++i) indices.push_back(first + i * step);
  return add("Gather", {tensor, integers(indices)}, {{"axis", axis}});
}

std::string GraphRewriter::alone(const std::string& tensor) {
  // The client's integers are taken as they are.
  const FloatNode& node = sources_.at(tensor);
  const bool of_input = std::ranges::any_of(
      node.inputs, [&](const std::string& name) { return plain_inputs_.contains(name); });
  if (!of_input) rules_.alone.insert(tensor);
  return tensor;
}

bool GraphRewriter::is_boolean(const std::string& tensor) const {
  const auto type = types_.find(tensor);
  return type != types_.end() && type->second == ElementType::boolean;
}

bool GraphRewriter::is_bit(const std::string& tensor) const {
  return is_boolean(tensor) || bits_of_truth_.contains(tensor);
}

std::vector<std::string> GraphRewriter::dependent_inputs(const FloatNode& node) const {
  std::vector<std::string> names;
  for (const std::string& name : node.inputs) {
    if (is_dependent(name)) names.push_back(name);
  }
  return names;
}

const FloatTensor& GraphRewriter::value(const std::string& constant) const {
  const auto computed = computed_.find(constant);
  return computed != computed_.end() ? computed->second : graph_.constants.at(constant);
}

std::vector<const FloatTensor*> GraphRewriter::constant_operands(const FloatNode& node) const {
  std::vector<const FloatTensor*> operands;
  for (const std::string& name : node.inputs)
    operands.push_back(name.empty() || is_dependent(name) ? nullptr : &value(name));
  return operands;
}

const FloatTensor& GraphRewriter::values(const std::string& tensor) {
  std::vector<std::string> open{tensor};  // a stack, since networks may be deep
  while (!open.empty()) {
    const std::string name = open.back();
    if (values_.contains(name)) {
      open.pop_back();
      continue;
    }
    for (std::size_t i = 0; i < graph_.inputs.size(); ++i) {
      if (graph_.inputs[i].name == name) values_[name] = {graph_.inputs[i].type, calibration_[i]};
    }
    if (values_.contains(name)) continue;
    const FloatNode& node = sources_.at(name);
    bool is_ready = true;
    for (const std::string& input : node.inputs) {
      if (!is_dependent(input) || values_.contains(input)) continue;
      open.push_back(input);
      is_ready = false;
    }
    if (!is_ready) continue;
    std::vector<const FloatTensor*> operands;
    for (const std::string& input : node.inputs) {
      const bool dependent = is_dependent(input);
      operands.push_back(input.empty() ? nullptr : dependent ? &values_.at(input) : &value(input));
    }
    FloatTensor result = std::move(evaluate_node(node, operands).front());
    values_[name] = std::move(result);
  }
  return values_.at(tensor);
}

ValueRange GraphRewriter::range(const std::string& tensor) {
  const auto [low, high] = std::ranges::minmax(values(tensor).values.data);
  return {low, high};
}

void GraphRewriter::forget_made() {
  std::erase_if(values_, [&](const auto& entry) { return rules_.made.contains(entry.first); });
}

void GraphRewriter::keep(FloatNode node) {
  const std::string& output = node.outputs.front();
  if (dependent_inputs(node).empty()) {
    evaluate_into(node, graph_.constants, computed_);
  } else {
    FloatTensor result = shape_run(node);
    types_[output] = result.type;
    graph_.shapes[output] = std::move(result.values.shape);
    roots_[output] = root_of(node);
    if (keeps_values(node) && plain_inputs_.contains(node.inputs[0])) plain_inputs_.insert(output);
    const bool is_cast = !node.custom && node.op_type == "Cast" && is_bit(node.inputs[0]);
    if (is_cast || (keeps_values(node) && is_bit(node.inputs[0]))) bits_of_truth_.insert(output);
  }
  graph_.nodes.push_back(std::move(node));
}

// Runs the node on dummies.
FloatTensor GraphRewriter::shape_run(const FloatNode& node) {
  std::list<FloatTensor> dummies;
  std::vector<const FloatTensor*> operands;
  for (const std::string& name : node.inputs) {
    if (name.empty()) {
      operands.push_back(nullptr);
    } else if (!is_dependent(name)) {
      operands.push_back(&value(name));
    } else {
      const double filling = types_.at(name) == ElementType::floating ? 0.5 : 1;
      const auto count = static_cast<std::size_t>(number_of_elements(shape(name)));
      dummies.push_back({types_.at(name), {shape(name), std::vector<double>(count, filling)}});
      operands.push_back(&dummies.back());
    }
  }
  return std::move(evaluate_node(node, operands).front());
}

std::string GraphRewriter::root_of(const FloatNode& node) const {
  const std::vector<std::string> dependent = dependent_inputs(node);
  const Operator* op = node.custom ? nullptr : find_operator(node.domain, node.op_type);
  const bool reshapes = op && op->role == OperatorRole::reshaping;
  const bool same = std::ranges::all_of(
      dependent, [&](const std::string& name) { return root(name) == root(dependent[0]); });
  if (same && (reshapes || is_elementwise(graph_, node, dependent))) return root(dependent[0]);
  return node.outputs.front();
}

std::string GraphRewriter::fresh() {
  std::string name;
  do {
    name = fmt::format("{}/{}", tensor_name_, ++tensors_);
  } while (graph_.shapes.contains(name));
  return name;
}

}  // namespace torusml
