#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <memory>

#include "importer/custom_operator.h"
#include "importer/operators.h"
#include "quantization/decompositions.h"
#include "torusml/error.h"

namespace torusml {
namespace {

constexpr std::int64_t kOnnxInt64 = 7;

struct Contest {
  Tournament kind = Tournament::largest;  // or smallest
  bool takes_last = false;                // of equal elements
};

std::string whole(GraphRewriter& rewriter, const std::string& tensor, Interval interval) {
  rewriter.rules().whole[tensor] = interval;
  return tensor;
}

// 1 where the second element of a pair wins.
std::string second_wins(GraphRewriter& rewriter, const std::string& difference,
                        const std::string& giver, const Contest& contest) {
  rewriter.rules().compared[difference] = giver;
  const bool smallest = contest.kind == Tournament::smallest;
  const char* compare = smallest ? (contest.takes_last ? "GreaterOrEqual" : "Greater")
                                 : (contest.takes_last ? "LessOrEqual" : "Less");
  return as_number(rewriter, rewriter.add(compare, {difference, rewriter.number(0)}));
}

std::string every_second(GraphRewriter& rewriter, const std::string& rows, std::int64_t first) {
  return rewriter.written_over(
      rewriter.part(rows, kRowAxis, first, rewriter.shape(rows).back() / 2, 2));
}

// The place of each pair's winner, counted from the first element of the first one's stretch.
// `places`: of the two in their stretches, of which the first has `length` elements. first + bit *
// (length + second - first) by one lookup of second - first + (2 length - 1) bit.
std::string chosen_place(GraphRewriter& rewriter, const std::string& places, const std::string& bit,
                         std::int64_t length) {
  const auto size = static_cast<double>(length);
  const std::string first = every_second(rewriter, places, 0),
                    second = every_second(rewriter, places, 1);
  const std::string weighted = whole(
      rewriter, rewriter.add("Mul", {bit, rewriter.number(2 * size - 1)}), {0, 2 * length - 1});
  const std::string between = rewriter.written_over(rewriter.add("Sub", {second, first}));
  const std::string sum =
      whole(rewriter, rewriter.add("Add", {between, weighted}), {1 - length, 3 * length - 2});
  const std::string is_set = rewriter.add("Greater", {sum, rewriter.number(size - 0.5)});
  const std::string step =
      whole(rewriter,
            rewriter.add("Where", {is_set, rewriter.add("Sub", {sum, rewriter.number(size - 1)}),
                                   rewriter.number(0)}),
            {0, 2 * length - 1});
  return rewriter.written_over(
      whole(rewriter, rewriter.add("Add", {first, step}), {0, 2 * length - 1}));
}

// 0 behind the places of a first round, for the element that met none.
std::string padded(GraphRewriter& rewriter, const std::string& bits) {
  const std::vector<std::int64_t> pads{0, 0, 0, 0, 0, 1};
  return rewriter.written_over(rewriter.add("Pad", {bits, rewriter.integers(pads)}));
}

// Of each row (batch, rows, K), whose integers have the step of `giver`: (batch, rows, 1).
// Neighbours meet, so that winners stay in the order of their places and equal elements are told
// apart by it.
std::string place_of_winner(GraphRewriter& rewriter, std::string rows, const std::string& giver,
                            const Contest& contest) {
  const std::int64_t count = rewriter.shape(rows).back();
  std::string places;
  std::int64_t length = 1;  // of the stretches that winners stand for, but perhaps the last
  for (std::int64_t k = count; k > 1; k = (k + 1) / 2, length *= 2) {
    const std::string first = every_second(rewriter, rows, 0),
                      second = every_second(rewriter, rows, 1);
    const std::string difference = rewriter.add("Sub", {first, second});
    const std::string bit = second_wins(rewriter, difference, giver, contest);
    if (places.empty()) {
      whole(rewriter, bit, {0, 1});
      places = k % 2 == 0 ? bit : padded(rewriter, bit);
    } else {
      places = with_rest(rewriter, chosen_place(rewriter, places, bit, length), places);
    }
    if (k > 2) {
      const std::string best = winner(rewriter, first, second, difference, giver, contest.kind);
      rows = with_rest(rewriter, best, rows);
    }
  }
  // A tensor of its own, which leaves the circuit as it is.
  const std::string result = rewriter.part(places, kRowAxis, 0, 1);
  return rewriter.written_over(whole(rewriter, result, {0, count - 1}));
}

std::string place_along(GraphRewriter& rewriter, const std::string& x, std::int64_t axis,
                        const Contest& contest, const Shape& shape) {
  std::vector<bool> is_row(rewriter.shape(x).size(), false);
  is_row[static_cast<std::size_t>(axis)] = true;
  if (rewriter.shape(x)[static_cast<std::size_t>(axis)] < 2) {
    throw Error(ErrorCode::not_supported,
                fmt::format("axis {} has one element, whose place is always 0", axis), "",
                "an axis of two elements at least");
  }
  const Rows rows = rows_of(rewriter, x, is_row);
  // Rows of another shape are read as they are; of other order, they are moves of x.
  const std::string& giver = std::ranges::is_sorted(rows.order) ? rows.tensor : x;
  rewriter.rules().operands.insert(giver);
  const std::string place = place_of_winner(rewriter, rows.tensor, giver, contest);
  return rewriter.add("Cast", {rewriter.reshaped(place, shape)},
                      {{"to", kOnnxInt64}, {"whole", std::int64_t{1}}});
}

// Element e of rows of so many elements as a matrix has columns: entry (x, e) of the matrix.
class EntriesOfRows : public CustomOperator {
 public:
  explicit EntriesOfRows(Tensor<double> matrix) : matrix_(std::move(matrix)) {}

  bool is_univariate() const override { return true; }
  FloatTensor evaluate(const std::vector<FloatTensor>& inputs) const override {
    const std::int64_t rows = matrix_.shape[0], columns = matrix_.shape[1];
    FloatTensor result{ElementType::floating, inputs.at(0).values};
    for (std::size_t e = 0; e < result.values.data.size(); ++e) {
      double& x = result.values.data[e];
      const auto row = static_cast<std::int64_t>(
          std::clamp(std::nearbyint(x), 0.0, static_cast<double>(rows - 1)));
      x = matrix_.data[static_cast<std::size_t>(row * columns) +
                       e % static_cast<std::size_t>(columns)];
    }
    return result;
  }
  // Of operators that mix elements.
  RecordedLinear record(const std::vector<InputQuantization>&) const override { return {}; }
  FloatTensor apply_tail(const Tensor<double>& x,
                         const std::vector<InputQuantization>&) const override {
    return {ElementType::floating, x};
  }

 private:
  const Tensor<double> matrix_;
};

std::int64_t axis_of(GraphRewriter& rewriter, const FloatNode& node, std::int64_t otherwise) {
  return normalized_axis(integer_attribute(node, "axis", otherwise),
                         static_cast<std::int64_t>(rewriter.shape(node.inputs[0]).size()));
}

}  // namespace

std::string extremum_place(GraphRewriter& rewriter, const FloatNode& node) {
  const Contest contest{node.op_type == "ArgMin" ? Tournament::smallest : Tournament::largest,
                        integer_attribute(node, "select_last_index", 0) != 0};
  return place_along(rewriter, node.inputs[0], axis_of(rewriter, node, 0), contest,
                     rewriter.shape(node.outputs[0]));
}

std::string rows_by_index(GraphRewriter& rewriter, const FloatNode& node) {
  // As many integers as the graph's input may have.
  const auto& inputs = rewriter.graph().inputs;
  const auto input = std::ranges::find(inputs, node.inputs[1], &GraphInput::name);
  if (input == inputs.end() || input->rows == 0) {
    throw Error(ErrorCode::not_supported, "rows by an index that is no input of the network", "",
                "an integer input in the clear");
  }
  const Tensor<double>& matrix = rewriter.value(node.inputs[0]).values;
  Shape column = rewriter.shape(node.inputs[1]);
  column.push_back(1);
  const std::string index =
      rewriter.expanded(rewriter.reshaped(node.inputs[1], column), rewriter.shape(node.outputs[0]));
  whole(rewriter, index, {0, input->rows - 1});
  return rewriter.apply(std::make_shared<EntriesOfRows>(matrix), "EntriesOfRows", index);
}

std::string top_of_rows(GraphRewriter& rewriter, const FloatNode& node) {
  const double count = rewriter.value(node.inputs[1]).values.data.at(0);
  if (count != 1) {
    throw Error(ErrorCode::not_supported, fmt::format("the {} first of encrypted elements", count),
                "", "K=1, or TopK on the decrypted output");
  }
  const bool smallest = integer_attribute(node, "largest", 1) == 0;
  const std::int64_t axis = axis_of(rewriter, node, -1);
  if (integer_attribute(node, "output", 0) == 0) {
    const std::vector<std::int64_t> axes{axis};
    return rewriter.add(smallest ? "ReduceMin" : "ReduceMax", {node.inputs[0]}, {{"axes", axes}});
  }
  return place_along(rewriter, node.inputs[0], axis,
                     {smallest ? Tournament::smallest : Tournament::largest, false},
                     rewriter.shape(node.outputs[0]));
}

}  // namespace torusml
