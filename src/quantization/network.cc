#include "quantization/network.h"

#include <fmt/format.h>

#include <algorithm>

#include "importer/custom_operator.h"
#include "importer/evaluation.h"
#include "importer/operators.h"
#include "importer/resizing.h"
#include "torusml/error.h"

namespace torusml {
namespace {

bool is_one_of(const FloatNode& node, const std::set<std::string>& types) {
  return !node.custom && node.domain.empty() && types.contains(node.op_type);
}

// To a float, or of numbers that a rewrite knows to be whole.
bool is_exact_cast(const FloatNode& node) {
  constexpr std::int64_t kFloat = 1, kDouble = 11;
  if (!is_one_of(node, {"Cast"})) return false;
  if (integer_attribute(node, "whole", 0) != 0) return true;
  const std::int64_t to = integer_attribute(node, "to", 0);
  return to == kFloat || to == kDouble;
}

// Affine in its encrypted operands, each of which is itself affine in the root.
bool is_affine_operator(const FloatNode& node, const std::vector<std::size_t>& dependent) {
  if (keeps_values(node) || is_one_of(node, {"Add", "Sub", "Neg"})) return true;
  if (is_one_of(node, {"Mul"})) return dependent.size() == 1;
  return is_one_of(node, {"Div", "BatchNormalization"}) && dependent.size() == 1 &&
         dependent[0] == 0;
}

bool is_sum(const FloatNode& node) { return is_one_of(node, {"Add", "Sub"}); }

bool is_linear(const FloatNode& node) {
  return is_one_of(node, {"Gemm", "MatMul", "Conv", "ConvTranspose"}) || averages_elements(node) ||
         is_linear_resize(node);
}

FloatTensor filled(Shape shape, double value) {
  const auto elements = static_cast<std::size_t>(number_of_elements(shape));
  return {ElementType::floating, {std::move(shape), std::vector<double>(elements, value)}};
}

}  // namespace

bool keeps_values(const FloatNode& node) {
  static const std::set<std::string> kTypes{"Reshape", "Flatten",   "Identity",
                                            "Squeeze", "Unsqueeze", "Dropout"};
  return is_one_of(node, kTypes) || is_exact_cast(node);
}

bool moves_elements(const FloatNode& node) {
  if (is_one_of(node, {"Resize"})) return !is_linear_resize(node);
  return is_one_of(
      node, {"Transpose", "Expand", "Pad", "Concat", "Slice", "Gather", "Split", "Tile", "Trilu"});
}

bool averages_elements(const FloatNode& node) {
  return is_one_of(node, {"AveragePool", "GlobalAveragePool", "ReduceMean", "ReduceSum"});
}

std::string describe_node(const FloatNode& node) { return describe(node); }

Network::Network(const FloatGraph& graph) : graph_(graph) {
  for (const FloatNode& node : graph.nodes) {
    for (const std::string& input : node.inputs) ++uses_[input];
    for (const std::string& output : node.outputs) producers_[output] = &node;
  }
  for (const std::string& output : graph.outputs) ++uses_[output];
  for (const GraphInput& input : graph.inputs) {
    roots_.insert(input.name);
    facts_[input.name] = {input.name, true, true, uses_[input.name] <= 1};
  }
  for (const FloatNode& node : graph.nodes) add(node);
}

void Network::add(const FloatNode& node) {
  const std::vector<std::size_t> dependent = dependent_inputs(node);
  if (dependent.empty()) return evaluate_into(node, graph_.constants, computed_);
  if (add_elementwise(node, dependent)) return;
  const bool is_mixing = node.custom ? !node.custom->is_univariate()
                                     : is_linear(node) || is_sum(node) || moves_elements(node);
  if (!is_mixing) {
    throw Error(ErrorCode::not_supported,
                dependent.size() > 1
                    ? fmt::format("a function of {} encrypted tensors", dependent.size())
                    : "this operator mixes elements, or changes how many there are",
                describe(node),
                "sums of encrypted tensors, products with constants, convolutions, averages, and "
                "functions of one tensor");
  }
  const std::string& output = node.outputs.front();
  roots_.insert(output);
  facts_[output] = {output, true, true, uses_[output] <= 1};
}

// False if the operands have different roots, or elements are mixed.
bool Network::add_elementwise(const FloatNode& node, const std::vector<std::size_t>& dependent) {
  std::vector<std::string> names;
  for (std::size_t i : dependent) names.push_back(node.inputs[i]);
  const Operator* op = node.custom ? nullptr : find_operator(node.domain, node.op_type);
  const bool reshapes = op != nullptr && op->role == OperatorRole::reshaping;
  if (!reshapes && !is_elementwise(graph_, node, names)) return false;
  Facts facts{facts_.at(names[0]).root, is_affine_operator(node, dependent), keeps_values(node),
              names.size() == 1};
  for (const std::string& name : names) {
    const Facts& operand = facts_.at(name);
    if (operand.root != facts.root) return false;
    facts.is_affine &= operand.is_affine;
    facts.is_plain &= operand.is_plain;
    facts.is_read_once &= operand.is_read_once;
  }
  const std::string& output = node.outputs.front();
  facts.is_read_once &= uses_[output] <= 1;
  facts_[output] = std::move(facts);
  return true;
}

bool Network::is_input(const std::string& tensor) const {
  return std::ranges::any_of(graph_.inputs,
                             [&](const GraphInput& input) { return input.name == tensor; });
}

const FloatTensor& Network::constant(const std::string& tensor, const FloatNode& reader) const {
  const auto given = graph_.constants.find(tensor);
  if (given != graph_.constants.end()) return given->second;
  const auto computed = computed_.find(tensor);
  if (computed != computed_.end()) return computed->second;
  throw Error(ErrorCode::not_supported,
              fmt::format("operand '{}' is encrypted where a constant is needed", tensor),
              describe(reader), "constant weights");
}

const FloatNode* Network::producer(const std::string& tensor) const {
  const auto found = producers_.find(tensor);
  return found == producers_.end() ? nullptr : found->second;
}

std::int64_t Network::elements(const std::string& tensor) const {
  return number_of_elements(graph_.shapes.at(tensor));
}

AffineFunction Network::affine(const std::string& tensor) const {
  const Shape& shape = graph_.shapes.at(root(tensor));
  AffineFunction function;
  function.offset = evaluate_from_root(tensor, filled(shape, 0)).values.data;
  function.slope = evaluate_from_root(tensor, filled(shape, 1)).values.data;
  for (std::size_t i = 0; i < function.slope.size(); ++i) function.slope[i] -= function.offset[i];
  return function;
}

FloatTensor Network::evaluate_from_root(const std::string& tensor,
                                        const FloatTensor& root_values) const {
  return evaluate_tail(graph_, elementwise_tail(graph_, tensor, roots_), root_values);
}

std::vector<std::size_t> Network::dependent_inputs(const FloatNode& node) const {
  std::vector<std::size_t> positions;
  for (std::size_t i = 0; i < node.inputs.size(); ++i) {
    if (is_dependent(node.inputs[i])) positions.push_back(i);
  }
  return positions;
}

}  // namespace torusml
