// Networks that move the batch axis (nn.MultiheadAttention puts the sequence first) as networks
// that leave it where it is: every tensor gets a new first axis for the batch, and what was the
// batch axis keeps the size 1 with which the network was traced.
//
//   lift_batch(graph);  // (length, 1, width) becomes (batch, length, 1, width)
//
// Cost: O(nodes).
#pragma once

#include "importer/float_graph.h"

namespace torusml {

// `graph`: folded, traced with one sample, with the shapes of all tensors. Errors: not_supported,
// naming the node, for operators without a rule and for outputs that do not begin with the batch.
void lift_batch(FloatGraph& graph);

}  // namespace torusml
