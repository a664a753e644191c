// Shapes of convolutions and of sums over axes, for the evaluator and for quantization.
#pragma once

#include <vector>

#include "importer/operators.h"
#include "importer/windows.h"

namespace torusml {

struct ConvolutionShape {
  Windows windows;
  std::int64_t groups = 1, in_channels = 0, out_channels = 0;

  std::int64_t group_in() const { return in_channels / groups; }
  std::int64_t group_out() const { return out_channels / groups; }
};

// Errors: wrong_shape (channels that the groups do not divide, a weight that does not fit), those
// of windows_of.
ConvolutionShape convolution_shape(const FloatNode& node, const Shape& operand,
                                   const Shape& weight);

// Of a transposed convolution: the windows are those of the convolution that it is the transpose
// of, whose input is its result. `weight`: (in, out / group, kernel). Errors: as convolution_shape.
ConvolutionShape transposed_convolution_shape(const FloatNode& node, const Shape& operand,
                                              const Shape& weight);

// Sums over axes, each divided by `divisor`.
struct Reduction {
  Shape shape;         // of the result
  Shape kept;          // the operand's, with 1 for every axis that is summed over
  double divisor = 1;  // other than 1 for means only

  // The element of the result that each element of the operand is added to.
  std::vector<std::int64_t> rows(const Shape& operand) const;
};

// ReduceSum, ReduceMean, GlobalAveragePool, ReduceMax... `operands` holds the axes, if they are an
// operand. Errors: wrong_shape, invalid_model.
Reduction reduction_of(const FloatNode& node, const Operands& operands, const Shape& operand);

}  // namespace torusml
