// Batch normalization as part of the weights before it.
//
// Where a step per tensor or per channel is all that counts, it may as well stay: tables take it
// for nothing. Folded, the activation behind it is a plain Relu of the layer's result, which lets
// channels be scaled against the next layer's weights (quantization/reconstruction.h).
#pragma once

#include "importer/float_graph.h"

namespace torusml {

// Every BatchNormalization of constants that alone reads a Gemm (transA = 0) or Conv goes into its
// weight and bias. The function of the graph stays the same; other nodes are left alone.
void fold_batch_normalization(FloatGraph& graph);

}  // namespace torusml
