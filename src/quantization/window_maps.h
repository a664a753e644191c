// Linear maps of convolutions, poolings, reductions and resizes on one flattened sample: a sparse
// row for each element of the result.
//
// Cost: O(entries). Error not_supported for more than 2^26 entries, naming the node.
#pragma once

#include "importer/operators.h"
#include "quantization/float_map.h"

namespace torusml {

// `operand`: the shape of the image, with a batch axis of 1. The map chooses its step by `weight`.
FloatMap convolution_map(const FloatNode& node, const Shape& operand, const Tensor<double>& weight);

// `weight`: (in, out / group, kernel).
FloatMap transposed_convolution_map(const FloatNode& node, const Shape& operand,
                                    const Tensor<double>& weight);

FloatMap average_pool_map(const FloatNode& node, const Shape& operand);

// ReduceSum, ReduceMean, GlobalAveragePool; `operands` holds the axes, if they are an operand.
FloatMap reduction_map(const FloatNode& node, const Operands& operands, const Shape& operand);

// Resize of mode linear; `operands` holds scales or sizes.
FloatMap resize_map(const FloatNode& node, const Operands& operands, const Shape& operand);

}  // namespace torusml
