// Maxima over windows as what encrypted data can do: max(x, y) = y + relu(x - y), axis by axis.
//
//   expand_max_pools(graph, rules);  // MaxPool becomes Gather, Sub, Relu and Add
//
// A pooling moves behind increasing functions that alone read it (Relu, quantizers), since
// max(f(x), f(y)) = f(max(x, y)). All integers of a pooling have the step of its operand, so that
// the maximum of integers is exact: a lookup for each difference, none for the result.
//
// Cost: for each axis of kernel size k, k - 1 lookups per element of the result along that axis.
#pragma once

#include "importer/float_graph.h"
#include "quantization/step_rules.h"

namespace torusml {

// Errors: those of windows_of, naming the node; invalid_model for a window that lies in the
// padding.
void expand_max_pools(FloatGraph& graph, StepRules& rules);

}  // namespace torusml
