#include "importer/float_graph.h"

#include <fmt/format.h>

#include <cmath>

#include "importer/custom_operator.h"
#include "importer/evaluation.h"
#include "importer/graph_index.h"
#include "importer/operators.h"
#include "torusml/error.h"

namespace torusml {
namespace {

void check_finite(const Tensor<double>& tensor, const std::string& what, const std::string& where) {
  for (std::size_t i = 0; i < tensor.data.size(); ++i) {
    if (!std::isfinite(tensor.data[i])) {
      throw Error(
          ErrorCode::non_finite_value,
          fmt::format("{} is {} at element {} of {}", what, tensor.data[i], i, tensor.data.size()),
          where);
    }
  }
}

void check_operands(const FloatNode& node, const Operator& op, const Operands& operands) {
  const auto count = static_cast<int>(operands.size());
  bool valid = count >= op.min_inputs && count <= op.max_inputs;
  for (int i = 0; valid && i < count; ++i) {
    valid = operands[i] || (i >= op.min_inputs && op.max_inputs <= 5);
  }
  if (!valid) {
    throw Error(ErrorCode::invalid_model,
                fmt::format("{} operands, or one that is missing, for an operator that takes {}{}",
                            count, op.min_inputs, op.max_inputs > op.min_inputs ? " or more" : ""),
                describe(node));
  }
}

FloatTensor evaluate_custom(const FloatNode& node, const Operands& operands) {
  std::vector<FloatTensor> values;
  for (const FloatTensor* operand : operands) {
    if (operand) values.push_back(*operand);
  }
  FloatTensor result = node.custom->evaluate(values);
  if (number_of_elements(result.values.shape) !=
      static_cast<std::int64_t>(result.values.data.size())) {
    throw Error(ErrorCode::wrong_shape,
                fmt::format("a custom operator gave {} values for the shape {}",
                            result.values.data.size(), to_string(result.values.shape)));
  }
  return result;
}

FloatTensor evaluate_first_output(const FloatNode& node, const Operands& operands) {
  if (node.custom) return evaluate_custom(node, operands);
  const Operator* op = find_operator(node.domain, node.op_type);
  if (!op) {
    throw Error(ErrorCode::unsupported_operator, "this operator is not supported", describe(node));
  }
  check_operands(node, *op, operands);
  return op->evaluate(node, operands);
}

bool same_count(const FloatGraph& graph, const std::string& a, const std::string& b) {
  const auto x = graph.shapes.find(a), y = graph.shapes.find(b);
  return x == graph.shapes.end() || y == graph.shapes.end() ||
         number_of_elements(x->second) == number_of_elements(y->second);
}

void check_inputs(const FloatGraph& graph, const std::vector<Tensor<double>>& inputs) {
  if (inputs.size() != graph.inputs.size()) {
    throw Error(ErrorCode::wrong_shape, fmt::format("{} inputs are given, the model has {}",
                                                    inputs.size(), graph.inputs.size()));
  }
  std::int64_t batch = 1;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const Shape& given = inputs[i].shape;
    Shape expected = graph.inputs[i].shape;
    if (!given.empty() && !expected.empty()) expected[0] = i == 0 ? given[0] : batch;
    if (given != expected || given.empty() || given[0] < 1) {
      throw Error(ErrorCode::wrong_shape,
                  fmt::format("it has shape {}, expected {}{}", to_string(given),
                              to_string(graph.inputs[i].shape),
                              " with any batch size of at least 1, the same for all inputs"),
                  fmt::format("input '{}'", graph.inputs[i].name));
    }
    batch = given[0];
    if (number_of_elements(given) != static_cast<std::int64_t>(inputs[i].data.size())) {
      throw Error(
          ErrorCode::wrong_shape,
          fmt::format("it has {} values for the shape {}", inputs[i].data.size(), to_string(given)),
          fmt::format("input '{}'", graph.inputs[i].name));
    }
  }
}

}  // namespace

std::vector<FloatTensor> evaluate_node(const FloatNode& node,
                                       const std::vector<const FloatTensor*>& inputs) {
  try {
    return {evaluate_first_output(node, inputs)};
  } catch (const Error& error) {
    if (!error.where().empty()) throw;
    throw Error(error.code(), error.message(), describe(node), error.hint());
  }
}

void evaluate_into(const FloatNode& node, const std::map<std::string, FloatTensor>& constants,
                   std::map<std::string, FloatTensor>& values) {
  Operands operands;
  for (const std::string& name : node.inputs) {
    if (name.empty()) {
      operands.push_back(nullptr);
      continue;
    }
    const auto value = values.find(name);
    const auto constant = constants.find(name);
    if (value == values.end() && constant == constants.end()) {
      throw Error(ErrorCode::invalid_model, fmt::format("tensor '{}' has no value", name),
                  describe(node));
    }
    operands.push_back(value != values.end() ? &value->second : &constant->second);
  }
  FloatTensor result = std::move(evaluate_node(node, operands).front());
  check_finite(result.values, "the result", describe(node));
  values[node.outputs.front()] = std::move(result);
}

std::map<std::string, FloatTensor> evaluate(const FloatGraph& graph,
                                            const std::vector<Tensor<double>>& inputs) {
  check_inputs(graph, inputs);
  std::map<std::string, FloatTensor> values = graph.constants;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const GraphInput& input = graph.inputs[i];
    check_finite(inputs[i], "the value", fmt::format("input '{}'", input.name));
    values[input.name] = {input.type, inputs[i]};
  }
  for (const FloatNode& node : graph.nodes) evaluate_into(node, graph.constants, values);
  return values;
}

const FloatNode* producer(const FloatGraph& graph, const std::string& tensor) {
  for (const FloatNode& node : graph.nodes) {
    for (const std::string& output : node.outputs) {
      if (output == tensor) return &node;
    }
  }
  return nullptr;
}

bool depends_on_input(const FloatGraph& graph, const std::string& tensor) {
  return GraphIndex(graph).depends_on_input(tensor);
}

bool is_elementwise(const FloatGraph& graph, const FloatNode& node,
                    const std::vector<std::string>& operands) {
  if (node.outputs.empty()) return false;
  const Operator* op = find_operator(node.domain, node.op_type);
  const bool by_role = op && op->role == OperatorRole::elementwise;
  if (!(node.custom ? node.custom->is_univariate() : by_role)) return false;
  for (const std::string& operand : operands) {
    if (!same_count(graph, operand, node.outputs.front())) return false;
  }
  return true;
}

bool is_univariate(const FloatGraph& graph, const FloatNode& node) {
  const std::vector<std::string> operands = GraphIndex(graph).dependent_inputs(node);
  return operands.size() == 1 && is_elementwise(graph, node, operands);
}

}  // namespace torusml
