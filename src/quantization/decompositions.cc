#include "quantization/decompositions.h"

#include <algorithm>
#include <map>

#include "importer/evaluation.h"
#include "importer/operators.h"

namespace torusml {
namespace {

using Table = std::map<std::string, Decomposition>;

// Whatever their operands are.
const Table& always() {
  static const Table table{
      {"ReduceMax", reduce_encrypted},
      {"ReduceMin", reduce_encrypted},
      {"ReduceL1", reduce_encrypted},
      {"ReduceL2", reduce_encrypted},
      {"ReduceSumSquare", reduce_encrypted},
      {"ReduceLogSum", reduce_encrypted},
      {"ReduceLogSumExp", reduce_encrypted},
      {"ArgMax", extremum_place},
      {"ArgMin", extremum_place},
      {"TopK", top_of_rows},
      {"Softmax", softmax_of},
      {"LogSoftmax", softmax_of},
      {"LayerNormalization", layer_norm},
      {"RMSNormalization", layer_norm},
      {"InstanceNormalization", instance_norm},
      {"GroupNormalization", group_norm},
  };
  return table;
}

// Where two operands are encrypted, and not functions of one tensor.
const Table& of_two_tensors() {
  static const Table table{
      {"Mul", multiply},
      {"Div", divide_by_encrypted},
      {"MatMul", matrix_product},
      {"Min", extremum_of_tensors},
      {"Max", extremum_of_tensors},
      {"Where", choose},
      {"PRelu", parametric_relu},
      {"Equal", compare_encrypted},
      {"Greater", compare_encrypted},
      {"GreaterOrEqual", compare_encrypted},
      {"Less", compare_encrypted},
      {"LessOrEqual", compare_encrypted},
      {"And", combine_bits},
      {"Or", combine_bits},
      {"Xor", combine_bits},
  };
  return table;
}

Decomposition find(const Table& table, const FloatNode& node) {
  const auto found = table.find(node.op_type);
  return found == table.end() ? nullptr : found->second;
}

// The function of one tensor where constants make the result larger than the tensor.
std::string of_expanded(GraphRewriter& rewriter, const FloatNode& node) {
  std::vector<std::string> inputs = node.inputs;
  for (std::string& name : inputs) {
    if (rewriter.is_dependent(name))
      name = rewriter.expanded(name, rewriter.shape(node.outputs.front()));
  }
  return rewriter.add(node.op_type, inputs, node.attributes);
}

bool is_elementwise_operator(const FloatNode& node) {
  const Operator* op = find_operator(node.domain, node.op_type);
  return op && op->role == OperatorRole::elementwise && !op->is_quantizer;
}

}  // namespace

Decomposition find_decomposition(const GraphRewriter& rewriter, const FloatNode& node) {
  if (node.custom || !node.domain.empty()) return nullptr;
  const std::vector<std::string> dependent = rewriter.dependent_inputs(node);
  if (dependent.empty()) return nullptr;
  if (const Decomposition found = find(always(), node)) return found;
  if (node.op_type == "Gather" && !rewriter.is_dependent(node.inputs[0])) return rows_by_index;
  const bool one_root = std::ranges::all_of(dependent, [&](const std::string& name) {
    return rewriter.root(name) == rewriter.root(dependent[0]);
  });
  const auto elements = [&](const std::string& tensor) {
    return number_of_elements(rewriter.shape(tensor));
  };
  const bool one_size = std::ranges::all_of(dependent, [&](const std::string& name) {
    return elements(name) == elements(node.outputs.front());
  });
  if (node.op_type == "MatMul" && dependent.size() > 1) return matrix_product;
  if (dependent.size() > 1 && !(one_root && one_size)) return find(of_two_tensors(), node);
  if (one_root && !one_size && is_elementwise_operator(node)) return of_expanded;
  return nullptr;
}

StepRules decompose(FloatGraph& graph, const std::vector<Tensor<double>>& calibration, int bits) {
  std::vector<FloatNode> nodes = std::move(graph.nodes);
  GraphRewriter rewriter(graph, calibration, bits);
  for (FloatNode& node : nodes) rewriter.emit(std::move(node));
  return std::move(rewriter.rules());
}

}  // namespace torusml
