// What evaluation of whole graphs and of tails share.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "importer/float_graph.h"

namespace torusml {

// Evaluates a node on tensors of `values`, or else of `constants`, and adds its output to `values`.
// Errors: non_finite_value, invalid_model (an operand without a value), those of evaluate_node.
void evaluate_into(const FloatNode& node, const std::map<std::string, FloatTensor>& constants,
                   std::map<std::string, FloatTensor>& values);

// True if element i of the node's output depends on element i of each of `operands` alone (and on
// constants).
bool is_elementwise(const FloatGraph& graph, const FloatNode& node,
                    const std::vector<std::string>& operands);

}  // namespace torusml
