// Maxima over windows as what encrypted data can do: max(x, y) = y + relu(x - y), axis by axis.
//
//   MaxPools pools = expand_max_pools(graph);  // MaxPool becomes Gather, Sub, Relu and Add
//
// A pooling moves behind increasing functions that alone read it (Relu, quantizers), since
// max(f(x), f(y)) = f(max(x, y)). All integers of a pooling have the step of its operand, so that
// the maximum of integers is exact: a lookup for each difference, none for the result.
//
// Cost: for each axis of kernel size k, k - 1 lookups per element of the result along that axis.
#pragma once

#include <map>
#include <set>
#include <string>

#include "importer/float_graph.h"

namespace torusml {

struct MaxPools {
  std::set<std::string> operands;              // read as they are
  std::set<std::string> maxima;                // so far; always written over what they are sums of
  std::map<std::string, std::string> step_of;  // relu(x - y) to the operand whose step it has

  bool contains(const std::string& tensor) const {
    return operands.contains(tensor) || step_of.contains(tensor);
  }
};

// Errors: those of windows_of, naming the node; invalid_model for a window that lies in the
// padding.
MaxPools expand_max_pools(FloatGraph& graph);

}  // namespace torusml
