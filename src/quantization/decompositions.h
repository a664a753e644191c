// What operators become on encrypted data, by operator name: sums, constant products, moves of
// elements and functions of one tensor. One file for each family.
//
//   StepRules rules = decompose(graph, calibration, bits);
//
// Numbers in comments are lookups for each element of the result, besides those that make the
// operands' integers.
//
// Cost: that of GraphRewriter.
#pragma once

#include <string>
#include <vector>

#include "quantization/graph_rewriter.h"

namespace torusml {

// Rewrites the graph. bits: of quantized activations. Errors: not_supported, naming the node.
StepRules decompose(FloatGraph& graph, const std::vector<Tensor<double>>& calibration, int bits);

// Gives the tensor that takes the place of the node's output.
using Decomposition = std::string (*)(GraphRewriter&, const FloatNode&);

// Null for nodes that stay as they are.
Decomposition find_decomposition(const GraphRewriter& rewriter, const FloatNode& node);

// decompose_products.cc: x y = ((x + y)^2 - (x - y)^2) / 4, two lookups a product.
std::string product(GraphRewriter& rewriter, const std::string& x, const std::string& y);
std::string multiply(GraphRewriter& rewriter, const FloatNode& node);
std::string divide_by_encrypted(GraphRewriter& rewriter, const FloatNode& node);
std::string matrix_product(GraphRewriter& rewriter, const FloatNode& node);

// decompose_choices.cc: comparisons are steps of a difference, one lookup each.
std::string compare_encrypted(GraphRewriter& rewriter, const FloatNode& node);
std::string extremum_of_tensors(GraphRewriter& rewriter, const FloatNode& node);
std::string combine_bits(GraphRewriter& rewriter, const FloatNode& node);
std::string choose(GraphRewriter& rewriter, const FloatNode& node);
std::string parametric_relu(GraphRewriter& rewriter, const FloatNode& node);
// A truth value as 0 or 1; other tensors as they are.
std::string as_number(GraphRewriter& rewriter, const std::string& tensor);
// bit * value by one lookup: a table of value + big * bit.
std::string masked(GraphRewriter& rewriter, const std::string& bit, const std::string& value);

// decompose_reductions.cc: extrema and norms over axes.
std::string reduce_encrypted(GraphRewriter& rewriter, const FloatNode& node);
inline constexpr std::int64_t kRowAxis = 2;
// Rows of `rows` (batch, rows, K), whose integers have the step of `giver`: their largest element
// ("Relu"), smallest ("Relu", negated) or the logarithm of the sum of their exponentials
// ("Softplus"), of shape (batch, rows, 1), by K - 1 lookups.
enum class Tournament { largest, smallest, log_sum_exp };
std::string tournament(GraphRewriter& rewriter, std::string rows, const std::string& giver,
                       Tournament kind);

// max(x - y, 0), or softplus(x - y), by one lookup of `difference` = x - y.
std::string lead(GraphRewriter& rewriter, const std::string& difference, const std::string& giver,
                 Tournament kind);
// x or y, or the logarithm of the sum of their exponentials, by their lead.
std::string winner(GraphRewriter& rewriter, const std::string& x, const std::string& y,
                   const std::string& lead, Tournament kind);

// The winners of a round, and behind them the last element of rows of odd length, which met none.
std::string with_rest(GraphRewriter& rewriter, const std::string& winners, const std::string& rows);

// decompose_selections.cc: ArgMax, ArgMin and TopK; embeddings. The place of the first of n takes
// n - 1 comparisons, n - 2 lookups of extrema and, from 3 elements on, about n / 2 - 1 choices of a
// place. The first K values take a lookup for each meeting of a sorting network, their places
// n (n - 1) / 2 comparisons and K tables of n - 1 ranks, or those of the values and 3 K n.
std::string extremum_place(GraphRewriter& rewriter, const FloatNode& node);
std::string top_of_rows(GraphRewriter& rewriter, const FloatNode& node);

// Rows of a constant matrix by an index, an input of the graph: one lookup an element, whose tables
// have an entry a row.
std::string rows_by_index(GraphRewriter& rewriter, const FloatNode& node);

// decompose_normalizations.cc
std::string softmax_of(GraphRewriter& rewriter, const FloatNode& node);
std::string layer_norm(GraphRewriter& rewriter, const FloatNode& node);
std::string instance_norm(GraphRewriter& rewriter, const FloatNode& node);
std::string group_norm(GraphRewriter& rewriter, const FloatNode& node);

// Axes moved to the end and made one: (batch, rows, K). `order` and `moved` say how to go back.
// `giver` is read as it is and gives its step: the rows where only the shape is another one, else
// the tensor that they are moves of.
struct Rows {
  std::string tensor, giver;
  std::vector<std::int64_t> order;
  Shape moved;
};
Rows rows_of(GraphRewriter& rewriter, const std::string& tensor, const std::vector<bool>& is_row);
std::string from_rows(GraphRewriter& rewriter, const Rows& rows, const std::string& tensor);

}  // namespace torusml
