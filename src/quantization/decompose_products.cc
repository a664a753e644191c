#include <algorithm>
#include <cmath>

#include "importer/broadcast.h"
#include "quantization/decompositions.h"
#include "torusml/error.h"

namespace torusml {
namespace {

std::string quarter_of_square(GraphRewriter& rewriter, const std::string& x) {
  return rewriter.add("Mul", {rewriter.add("Mul", {x, x}), rewriter.number(0.25)});
}

// Both squares have the step of the wider one: whatever weights their difference is multiplied by,
// what they have in common cancels.
void share_step(GraphRewriter& rewriter, const std::string& sum, const std::string& difference) {
  const bool sum_is_wider = rewriter.range(sum).high >= rewriter.range(difference).high;
  const std::string& giver = sum_is_wider ? sum : difference;
  rewriter.rules().operands.insert(giver);
  rewriter.rules().step_of[sum_is_wider ? difference : sum] = giver;
  rewriter.forget_made();
}

// A reciprocal of what is rounded to almost 0 would widen the step for all others.
std::string within_range(GraphRewriter& rewriter, const std::string& x) {
  if (rewriter.is_plain_input(x)) return x;
  const auto [low, high] = rewriter.range(x);
  return rewriter.add("Clip", {x, rewriter.number(low), rewriter.number(high)});
}

}  // namespace

// Both factors are scaled to one magnitude and quantized on one step, so that sum and difference
// are exact.
std::string product(GraphRewriter& rewriter, const std::string& x, const std::string& y) {
  const double a = rewriter.range(x).magnitude(), b = rewriter.range(y).magnitude();
  const double ratio = a > 0 && b > 0 ? std::sqrt(b / a) : 1;
  const Shape shape = broadcast_shape(rewriter.shape(x), rewriter.shape(y));
  const auto scaled = [&](const std::string& tensor, double factor) {
    const std::string bounded = within_range(rewriter, tensor);
    const std::string result =
        rewriter.alone(rewriter.add("Mul", {bounded, rewriter.number(factor)}));
    return rewriter.expanded(result, shape);
  };
  const std::string first = scaled(x, ratio), second = scaled(y, 1 / ratio);
  const std::string sum = quarter_of_square(rewriter, rewriter.add("Add", {first, second}));
  const std::string difference = quarter_of_square(rewriter, rewriter.add("Sub", {first, second}));
  share_step(rewriter, sum, difference);
  return rewriter.add("Sub", {sum, difference});
}

std::string multiply(GraphRewriter& rewriter, const FloatNode& node) {
  std::string x = node.inputs[0], y = node.inputs[1];
  if (rewriter.is_bit(y)) std::swap(x, y);
  return rewriter.is_bit(x) ? masked(rewriter, x, y) : product(rewriter, x, y);
}

std::string divide_by_encrypted(GraphRewriter& rewriter, const FloatNode& node) {
  return product(rewriter, node.inputs[0], rewriter.add("Reciprocal", {node.inputs[1]}));
}

// Products of all pairs, then sums: two lookups for each of M K N products.
std::string matrix_product(GraphRewriter& rewriter, const FloatNode& node) {
  const std::string &x = node.inputs[0], &y = node.inputs[1];
  const auto rank = static_cast<std::int64_t>(rewriter.shape(x).size());
  if (rank < 3 || rewriter.shape(y).size() != rewriter.shape(x).size()) {
    throw Error(ErrorCode::not_supported,
                "a product of encrypted matrices of shapes " + to_string(rewriter.shape(x)) +
                    " and " + to_string(rewriter.shape(y)),
                "", "operands with a batch axis and the same number of axes");
  }
  const std::vector<std::int64_t> last{rank}, before{rank - 2};
  const std::string rows = rewriter.add("Unsqueeze", {x}, {{"axes", last}});
  const std::string columns = rewriter.add("Unsqueeze", {y}, {{"axes", before}});
  const std::string products = product(rewriter, rows, columns);
  rewriter.rules().maxima.insert(products);
  const std::vector<std::int64_t> inner{rank - 1};
  return rewriter.add("ReduceSum", {products}, {{"axes", inner}, {"keepdims", std::int64_t{0}}});
}

}  // namespace torusml
