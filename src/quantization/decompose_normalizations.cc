#include <algorithm>
#include <cmath>

#include "importer/operators.h"
#include "quantization/decompositions.h"
#include "torusml/error.h"

namespace torusml {
namespace {

constexpr float kEpsilon = 1e-5f;
constexpr int kMoreBits = 3;

std::vector<bool> softmax_axes(const FloatNode& node, std::size_t rank) {
  const bool flattened = integer_attribute(node, "flattened", 0) != 0;
  const auto axis = static_cast<std::size_t>(normalized_axis(
      integer_attribute(node, "axis", flattened ? 1 : -1), static_cast<std::int64_t>(rank)));
  std::vector<bool> is_row(rank, false);
  for (std::size_t i = axis; i < (flattened ? rank : axis + 1); ++i) is_row[i] = true;
  return is_row;
}

std::vector<std::int64_t> chosen(const std::vector<bool>& is_row) {
  std::vector<std::int64_t> axes;
  for (std::size_t i = 0; i < is_row.size(); ++i) {
    if (is_row[i]) axes.push_back(static_cast<std::int64_t>(i));
  }
  return axes;
}

// What lies so far below the largest element of every row that its share of the sum is less than a
// quantization step is held there, so that masks do not widen the steps.
std::string clipped(GraphRewriter& rewriter, const std::string& x,
                    const std::vector<bool>& is_row) {
  const FloatNode maxima{"", "ReduceMax", "", {x}, {""}, {{"axes", chosen(is_row)}}, nullptr};
  const FloatTensor largest = evaluate_node(maxima, {&rewriter.values(x)}).front();
  const double least = std::ranges::min(largest.values.data) - (rewriter.bits() + 2) * std::log(2);
  if (rewriter.range(x).low >= least) return x;
  return rewriter.add("Clip", {x, rewriter.number(least)});
}

std::string mean_of(GraphRewriter& rewriter, const std::string& x,
                    const std::vector<std::int64_t>& axes) {
  return rewriter.add("ReduceMean", {x}, {{"axes", axes}});
}

double step_of(GraphRewriter& rewriter, const std::string& tensor, int bits) {
  const auto [low, high] = rewriter.range(tensor);
  return (high - low) / (std::exp2(bits) - 1);
}

// Of smaller variances quantization leaves nothing: all elements of such a row are within a step of
// 0, or their squares are. They would only widen the range of the reciprocals, and what is left of
// the elements be multiplied by far too much.
double least_variance(GraphRewriter& rewriter, const std::string& centre, double elements,
                      const std::string& squares) {
  const double step = step_of(rewriter, centre, rewriter.bits());
  return std::max(step * step / elements,
                  step_of(rewriter, squares, rewriter.bits() + kMoreBits) / 2);
}

// Mean 0 and variance 1 over the axes. Lookups: a square and a product for each element, one for
// the mean and one for the standard deviation of each row.
std::string normalized(GraphRewriter& rewriter, const std::string& x,
                       const std::vector<std::int64_t>& axes, double epsilon, bool centred) {
  std::string centre = x;
  if (centred) {
    // The mean has integers of its own: as a part of the matrix it would be lost among its weights.
    const std::string mean = mean_of(rewriter, x, axes);
    rewriter.rules().alone.insert(mean);
    centre = rewriter.add("Sub", {x, rewriter.expanded(mean, rewriter.shape(x))});
  }
  // The root of a small variance, of which the reciprocal is taken, needs finer squares.
  const std::string squares = rewriter.add("Mul", {centre, centre});
  rewriter.rules().more_bits[squares] = kMoreBits;
  double elements = 1;
  for (const std::int64_t axis : axes)
    elements *= static_cast<double>(rewriter.shape(x)[static_cast<std::size_t>(axis)]);
  const double least = least_variance(rewriter, centre, elements, squares);
  const std::string variance =
      rewriter.add("Clip", {mean_of(rewriter, squares, axes), rewriter.number(least)});
  const std::string deviation =
      rewriter.add("Sqrt", {rewriter.add("Add", {variance, rewriter.number(epsilon)})});
  return product(rewriter, centre, rewriter.add("Reciprocal", {deviation}));
}

std::string affine(GraphRewriter& rewriter, const std::string& x, Tensor<double> scale,
                   const Tensor<double>* shift) {
  const std::string scaled = rewriter.add("Mul", {x, rewriter.constant(std::move(scale))});
  return shift == nullptr ? scaled : rewriter.add("Add", {scaled, rewriter.constant(*shift)});
}

// One value for each channel (axis 1).
Tensor<double> by_channel(const FloatTensor& values, const Shape& shape) {
  const auto count = static_cast<std::int64_t>(values.values.data.size());
  Tensor<double> result{Shape(shape.size() - 1, 1), {}};
  result.shape[0] = shape[1];
  for (std::int64_t c = 0; c < shape[1]; ++c)
    result.data.push_back(values.values.data[static_cast<std::size_t>(c * count / shape[1])]);
  return result;
}

double epsilon_of(const FloatNode& node) { return number_attribute(node, "epsilon", kEpsilon); }

std::vector<std::int64_t> axes_from(std::int64_t first, const Shape& shape) {
  std::vector<std::int64_t> axes;
  for (auto i = first; i < static_cast<std::int64_t>(shape.size()); ++i) axes.push_back(i);
  return axes;
}

std::string channelwise(GraphRewriter& rewriter, const FloatNode& node, const std::string& x) {
  const Shape shape = rewriter.shape(x);
  const Tensor<double> shift = by_channel(rewriter.value(node.inputs[2]), shape);
  return affine(rewriter, x, by_channel(rewriter.value(node.inputs[1]), shape), &shift);
}

}  // namespace

// exp(x - log(sum of exp(x))). The logarithm is made pair by pair as log(e^a + e^b) = b +
// softplus(a - b), so that nothing overflows whatever the row is: K - 1 lookups for a row of K, and
// one for each element.
std::string softmax_of(GraphRewriter& rewriter, const FloatNode& node) {
  const std::vector<bool> is_row = softmax_axes(node, rewriter.shape(node.inputs[0]).size());
  const std::string x = clipped(rewriter, node.inputs[0], is_row);
  const Rows rows = rows_of(rewriter, x, is_row);
  const std::string sum =
      rewriter.expanded(tournament(rewriter, rows.tensor, rows.giver, Tournament::log_sum_exp),
                        rewriter.shape(rows.tensor));
  rewriter.rules().maxima.insert(sum);
  std::string result = rewriter.add("Sub", {rows.tensor, sum});
  if (node.op_type == "Softmax") result = rewriter.add("Exp", {result});
  return from_rows(rewriter, rows, result);
}

std::string layer_norm(GraphRewriter& rewriter, const FloatNode& node) {
  const std::string& x = node.inputs[0];
  const Shape& shape = rewriter.shape(x);
  const std::int64_t axis =
      normalized_axis(integer_attribute(node, "axis", -1), static_cast<std::int64_t>(shape.size()));
  const std::string result = normalized(rewriter, x, axes_from(axis, shape), epsilon_of(node),
                                        node.op_type == "LayerNormalization");
  const std::vector<const FloatTensor*> operands = rewriter.constant_operands(node);
  const bool has_bias = operands.size() > 2 && operands[2] != nullptr;
  return affine(rewriter, result, operands[1]->values, has_bias ? &operands[2]->values : nullptr);
}

std::string instance_norm(GraphRewriter& rewriter, const FloatNode& node) {
  const std::string& x = node.inputs[0];
  return channelwise(
      rewriter, node,
      normalized(rewriter, x, axes_from(2, rewriter.shape(x)), epsilon_of(node), true));
}

std::string group_norm(GraphRewriter& rewriter, const FloatNode& node) {
  const std::string& x = node.inputs[0];
  const Shape shape = rewriter.shape(x);
  const std::int64_t groups = integer_attribute(node, "num_groups", 1);
  const std::string grouped = rewriter.reshaped(x, {1, groups, number_of_elements(shape) / groups});
  const std::string result = normalized(rewriter, grouped, {2}, epsilon_of(node), true);
  return channelwise(rewriter, node, rewriter.reshaped(result, shape));
}

}  // namespace torusml
