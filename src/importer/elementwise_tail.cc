#include <fmt/format.h>

#include <algorithm>

#include "importer/evaluation.h"
#include "importer/graph_index.h"
#include "importer/operators.h"
#include "torusml/error.h"

namespace torusml {
namespace {

bool keeps_flat_order(const FloatNode& node) {
  const Operator* op = node.custom ? nullptr : find_operator(node.domain, node.op_type);
  return op && op->role == OperatorRole::reshaping;
}

// Walks back breadth first; nodes are sorted into the graph's order at the end.
class TailWalk {
 public:
  TailWalk(const FloatGraph& graph, const std::set<std::string>& roots)
      : graph_(graph), roots_(roots), index_(graph) {}

  ElementwiseTail from(const std::string& tensor) {
    if (!index_.knows(tensor)) {
      throw Error(ErrorCode::invalid_argument, fmt::format("there is no tensor '{}'", tensor));
    }
    visit(tensor, nullptr);
    while (!open_.empty()) {
      const FloatNode* node = open_.back();
      open_.pop_back();
      check(*node);
      for (const std::string& input : node->inputs) visit(input, node);
    }
    if (root_.empty()) {
      throw Error(ErrorCode::not_supported,
                  fmt::format("tensor '{}' does not depend on any input", tensor));
    }
    ElementwiseTail tail{root_, tensor, {}};
    for (const FloatNode& node : graph_.nodes) {
      if (nodes_.count(&node)) tail.nodes.push_back(&node);
    }
    return tail;
  }

 private:
  void visit(const std::string& tensor, const FloatNode* reader) {
    if (tensor.empty() || graph_.constants.count(tensor)) return;
    if (roots_.count(tensor)) return reach_root(tensor, reader);
    const FloatNode* node = index_.producer(tensor);
    if (!node) {
      throw Error(ErrorCode::not_supported,
                  fmt::format("input '{}' is reached, which is not among the roots", tensor),
                  reader ? describe(*reader) : "");
    }
    if (nodes_.insert(node).second) open_.push_back(node);
  }

  void reach_root(const std::string& tensor, const FloatNode* reader) {
    if (root_.empty()) root_ = tensor;
    if (root_ != tensor) {
      throw Error(ErrorCode::not_supported,
                  fmt::format("a function of two encrypted tensors, '{}' and '{}'", root_, tensor),
                  reader ? describe(*reader) : "");
    }
  }

  // Nodes that work on constants alone (quantized weights) may be of any kind.
  void check(const FloatNode& node) const {
    const std::vector<std::string> operands = index_.dependent_inputs(node);
    if (operands.empty() || keeps_flat_order(node) || is_elementwise(graph_, node, operands))
      return;
    throw Error(ErrorCode::not_supported,
                "this operator mixes the elements of its operand, so it is not part of a table",
                describe(node));
  }

  const FloatGraph& graph_;
  const std::set<std::string>& roots_;
  const GraphIndex index_;
  std::string root_;
  std::set<const FloatNode*> nodes_;
  std::vector<const FloatNode*> open_;
};

}  // namespace

ElementwiseTail elementwise_tail(const FloatGraph& graph, const std::string& tensor,
                                 const std::set<std::string>& roots) {
  return TailWalk(graph, roots).from(tensor);
}

FloatTensor evaluate_tail(const FloatGraph& graph, const ElementwiseTail& tail,
                          const FloatTensor& root_values) {
  const Shape& given = root_values.values.shape;
  Shape expected = graph.shapes.at(tail.root);
  if (!given.empty() && !expected.empty()) expected[0] = given[0];
  if (given != expected ||
      number_of_elements(given) != static_cast<std::int64_t>(root_values.values.data.size())) {
    throw Error(ErrorCode::wrong_shape,
                fmt::format("{} values of shape {}, expected {}", root_values.values.data.size(),
                            to_string(given), to_string(expected)),
                fmt::format("tensor '{}'", tail.root));
  }
  if (tail.nodes.empty()) return root_values;
  std::map<std::string, FloatTensor> values{{tail.root, root_values}};
  for (const FloatNode* node : tail.nodes) evaluate_into(*node, graph.constants, values);
  return std::move(values.at(tail.tensor));
}

}  // namespace torusml
