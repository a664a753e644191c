// The functions behind the operator table, by file. Each takes a node and its operands; the number
// of operands has been checked. Error codes: operators.h.
#pragma once

#include "importer/onnx_types.h"
#include "importer/operators.h"

namespace torusml {

using ScalarFunction = double (*)(double x, double a, double b);

// operators_scalar.cc: functions of one number, with up to two parameters.
namespace scalar {
double celu(double x, double alpha, double);
double elu(double x, double alpha, double);
double gelu(double x);
double gelu_tanh(double x);
double hard_sigmoid(double x, double alpha, double beta);
double hard_swish(double x, double, double);
double mish(double x, double, double);
double selu(double x, double alpha, double gamma);
double shrink(double x, double bias, double lambda);
double sigmoid(double x, double, double);
double softplus(double x, double, double);
}  // namespace scalar

// operators_elementwise.cc
FloatTensor map_scalar(ScalarFunction function, double a, double b, const FloatTensor& x);
FloatTensor arithmetic(double (*function)(double, double), const Operands& operands);
FloatTensor compare(bool (*function)(double, double), const Operands& operands);
FloatTensor logical(bool (*function)(bool, bool), const Operands& operands);
FloatTensor identity(const FloatNode& node, const Operands& operands);
FloatTensor dropout(const FloatNode& node, const Operands& operands);
FloatTensor gelu(const FloatNode& node, const Operands& operands);
FloatTensor logical_not(const FloatNode& node, const Operands& operands);
FloatTensor divide(const FloatNode& node, const Operands& operands);
FloatTensor modulo(const FloatNode& node, const Operands& operands);
FloatTensor power(const FloatNode& node, const Operands& operands);
FloatTensor clip(const FloatNode& node, const Operands& operands);
FloatTensor where(const FloatNode& node, const Operands& operands);
FloatTensor batch_normalization(const FloatNode& node, const Operands& operands);

// operators_linear.cc
FloatTensor gemm(const FloatNode& node, const Operands& operands);
FloatTensor matmul(const FloatNode& node, const Operands& operands);

// operators_spatial.cc
FloatTensor convolution(const FloatNode& node, const Operands& operands);
FloatTensor average_pool(const FloatNode& node, const Operands& operands);
FloatTensor transposed_convolution(const FloatNode& node, const Operands& operands);
FloatTensor max_pool(const FloatNode& node, const Operands& operands);
FloatTensor pad(const FloatNode& node, const Operands& operands);
FloatTensor resize(const FloatNode& node, const Operands& operands);

// operators_reduce.cc: sums, means, norms and extrema over axes.
FloatTensor reduce(const FloatNode& node, const Operands& operands);

// operators_select.cc: ArgMax, ArgMin and TopK. A TopK node has one result, that of its attribute
// `output`: values, or places.
FloatTensor place_of_extremum(const FloatNode& node, const Operands& operands);
FloatTensor top_k(const FloatNode& node, const Operands& operands);

// operators_normalize.cc
FloatTensor softmax(const FloatNode& node, const Operands& operands);
FloatTensor log_softmax(const FloatNode& node, const Operands& operands);
FloatTensor layer_normalization(const FloatNode& node, const Operands& operands);
FloatTensor instance_normalization(const FloatNode& node, const Operands& operands);
FloatTensor group_normalization(const FloatNode& node, const Operands& operands);

// operators_moves.cc: every element of the result is one of the operand, or 0. A Split node has one
// result, that of its attribute `output`.
FloatTensor split(const FloatNode& node, const Operands& operands);
FloatTensor tile(const FloatNode& node, const Operands& operands);
FloatTensor trilu(const FloatNode& node, const Operands& operands);

// operators_shape.cc
FloatTensor reshape(const FloatNode& node, const Operands& operands);
FloatTensor flatten(const FloatNode& node, const Operands& operands);
FloatTensor squeeze(const FloatNode& node, const Operands& operands);
FloatTensor unsqueeze(const FloatNode& node, const Operands& operands);
FloatTensor transpose(const FloatNode& node, const Operands& operands);
FloatTensor expand(const FloatNode& node, const Operands& operands);
FloatTensor shape_of(const FloatNode& node, const Operands& operands);
FloatTensor size_of(const FloatNode& node, const Operands& operands);

// operators_constant.cc: constants, and what exporters compute shapes and indices with.
FloatTensor constant(const FloatNode& node, const Operands& operands);
FloatTensor constant_of_shape(const FloatNode& node, const Operands& operands);
FloatTensor range(const FloatNode& node, const Operands& operands);
FloatTensor concat(const FloatNode& node, const Operands& operands);
FloatTensor gather(const FloatNode& node, const Operands& operands);
FloatTensor slice(const FloatNode& node, const Operands& operands);

// operators_quantize.cc
FloatTensor cast(const FloatNode& node, const Operands& operands);
FloatTensor quant(const FloatNode& node, const Operands& operands);
FloatTensor truncate(const FloatNode& node, const Operands& operands);
// The integers of a quantizer of so many bits, by its attributes `signed` and `narrow`. Error
// unsupported_bits unless they are a whole number from 1 to 32; `where` is its place.
IntegerRange range_of_bits(const FloatNode& node, double bits, const std::string& where = "");
// The step of what a Trunc gives, of its operands.
FloatTensor truncated_scale(const Operands& operands);
FloatTensor quantize_linear(const FloatNode& node, const Operands& operands);
FloatTensor dequantize_linear(const FloatNode& node, const Operands& operands);

}  // namespace torusml
