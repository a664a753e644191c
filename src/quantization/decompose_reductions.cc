#include <algorithm>
#include <cmath>

#include "importer/linear_shapes.h"
#include "importer/operators.h"
#include "quantization/decompositions.h"
#include "torusml/error.h"

namespace torusml {
namespace {

struct Norm {
  const char *inside, *outside;  // null: the number itself
};

const std::map<std::string, Norm>& norms() {
  static const std::map<std::string, Norm> table{{"ReduceL1", {"Abs", nullptr}},
                                                 {"ReduceL2", {"Square", "Sqrt"}},
                                                 {"ReduceSumSquare", {"Square", nullptr}},
                                                 {"ReduceLogSum", {nullptr, "Log"}}};
  return table;
}

// One lookup for each element of the operand, one for each of the result.
std::string norm(GraphRewriter& rewriter, const FloatNode& node) {
  const auto& [inside, outside] = norms().at(node.op_type);
  std::string x = node.inputs[0];
  if (inside != nullptr)
    x = inside == std::string("Square") ? rewriter.add("Mul", {x, x}) : rewriter.add(inside, {x});
  std::vector<std::string> inputs = node.inputs;
  inputs[0] = x;
  const std::string sum = rewriter.add("ReduceSum", inputs, node.attributes);
  return outside == nullptr ? sum : rewriter.add(outside, {sum});
}

}  // namespace

std::string reduce_encrypted(GraphRewriter& rewriter, const FloatNode& node) {
  if (norms().contains(node.op_type)) return norm(rewriter, node);
  const std::string& x = node.inputs[0];
  const Shape shape = rewriter.shape(x);
  const Reduction reduction = reduction_of(node, rewriter.constant_operands(node), shape);
  std::vector<bool> is_row;
  for (std::size_t i = 0; i < shape.size(); ++i) is_row.push_back(reduction.kept[i] != shape[i]);
  const Tournament kind = node.op_type == "ReduceMax"   ? Tournament::largest
                          : node.op_type == "ReduceMin" ? Tournament::smallest
                                                        : Tournament::log_sum_exp;
  const Rows rows = rows_of(rewriter, x, is_row);
  const std::string best = tournament(rewriter, rows.tensor, rows.giver, kind);
  return rewriter.reshaped(best, reduction.shape);
}

std::string lead(GraphRewriter& rewriter, const std::string& difference, const std::string& giver,
                 Tournament kind) {
  const std::string more =
      rewriter.add(kind == Tournament::log_sum_exp ? "Softplus" : "Relu", {difference});
  rewriter.rules().step_of[more] = giver;
  return more;
}

std::string winner(GraphRewriter& rewriter, const std::string& x, const std::string& y,
                   const std::string& lead, Tournament kind) {
  return rewriter.written_over(kind == Tournament::smallest ? rewriter.add("Sub", {x, lead})
                                                            : rewriter.add("Add", {y, lead}));
}

std::string tournament(GraphRewriter& rewriter, std::string rows, const std::string& giver,
                       Tournament kind) {
  for (std::int64_t k = rewriter.shape(rows).back(); k > 1; k = (k + 1) / 2) {
    const std::int64_t half = k / 2;
    const std::string a = rewriter.written_over(rewriter.part(rows, kRowAxis, 0, half));
    const std::string b = rewriter.written_over(rewriter.part(rows, kRowAxis, half, half));
    const std::string difference = rewriter.add("Sub", {a, b});
    // A logarithm of a sum leaves the interval of the elements.
    if (kind != Tournament::log_sum_exp) rewriter.rules().compared[difference] = giver;
    const std::string more = lead(rewriter, difference, giver, kind);
    rows = with_rest(rewriter, winner(rewriter, a, b, more, kind), rows);
  }
  return rows;
}

std::string with_rest(GraphRewriter& rewriter, const std::string& winners,
                      const std::string& rows) {
  const std::int64_t count = rewriter.shape(rows).back();
  if (count % 2 == 0) return winners;
  const std::string rest = rewriter.written_over(rewriter.part(rows, kRowAxis, count - 1, 1));
  return rewriter.written_over(rewriter.add("Concat", {winners, rest}, {{"axis", kRowAxis}}));
}

Rows rows_of(GraphRewriter& rewriter, const std::string& tensor, const std::vector<bool>& is_row) {
  const Shape& shape = rewriter.shape(tensor);
  Rows rows;
  std::int64_t size = 1;
  for (const bool last : {false, true}) {
    for (std::size_t i = 0; i < shape.size(); ++i) {
      if (is_row[i] != last) continue;
      rows.order.push_back(static_cast<std::int64_t>(i));
      rows.moved.push_back(shape[i]);
      if (last) size *= shape[i];
    }
  }
  const bool moves = !std::ranges::is_sorted(rows.order);
  std::string moved = tensor;
  if (moves) {
    moved = rewriter.add("Transpose", {tensor}, {{"perm", rows.order}});
    rewriter.rules().maxima.insert(moved);
  }
  const std::int64_t all = number_of_elements(shape);
  rows.tensor = rewriter.reshaped(moved, {1, size == 0 ? 0 : all / size, size});
  rows.giver = moves ? tensor : rows.tensor;
  rewriter.rules().operands.insert(rows.giver);
  return rows;
}

std::string from_rows(GraphRewriter& rewriter, const Rows& rows, const std::string& tensor) {
  const std::string moved = rewriter.reshaped(tensor, rows.moved);
  if (std::ranges::is_sorted(rows.order)) return moved;
  std::vector<std::int64_t> back(rows.order.size());
  for (std::size_t i = 0; i < back.size(); ++i)
    back[static_cast<std::size_t>(rows.order[i])] = static_cast<std::int64_t>(i);
  return rewriter.add("Transpose", {moved}, {{"perm", back}});
}

}  // namespace torusml
