#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>
#include <utility>

#include "importer/custom_operator.h"
#include "importer/operators.h"
#include "quantization/decompositions.h"
#include "quantization/sorting_network.h"
#include "torusml/error.h"

namespace torusml {
namespace {

constexpr std::int64_t kOnnxInt64 = 7;

struct Contest {
  Tournament kind = Tournament::largest;  // or smallest
  bool takes_last = false;                // of equal elements
  bool is_exact = false;                  // its lookups are, under any precision

  Tournament of_losers() const {
    return kind == Tournament::largest ? Tournament::smallest : Tournament::largest;
  }
};

std::string whole(GraphRewriter& rewriter, const std::string& tensor, Interval interval) {
  rewriter.rules().whole[tensor] = interval;
  return tensor;
}

// Of two elements, or of what meetings made of them.
std::string compared(GraphRewriter& rewriter, const std::string& first, const std::string& second,
                     const std::string& giver, const Contest& contest) {
  const std::string difference = rewriter.add("Sub", {first, second});
  rewriter.rules().compared[difference] = giver;
  if (contest.is_exact) rewriter.rules().exact.insert(difference);
  return difference;
}

// 1 where the second element of a pair wins.
std::string second_wins(GraphRewriter& rewriter, const std::string& difference,
                        const Contest& contest) {
  const bool smallest = contest.kind == Tournament::smallest;
  const char* compare = smallest ? (contest.takes_last ? "GreaterOrEqual" : "Greater")
                                 : (contest.takes_last ? "LessOrEqual" : "Less");
  const std::string bit =
      as_number(rewriter, rewriter.add(compare, {difference, rewriter.number(0)}));
  return whole(rewriter, bit, {0, 1});
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

// A number behind each row.
std::string padded(GraphRewriter& rewriter, const std::string& rows, double number) {
  const std::vector<std::int64_t> pads{0, 0, 0, 0, 0, 1};
  return rewriter.written_over(
      rewriter.add("Pad", {rows, rewriter.integers(pads), rewriter.number(number)}));
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
    const std::string difference = compared(rewriter, first, second, giver, contest);
    const std::string bit = second_wins(rewriter, difference, contest);
    if (places.empty()) {
      // 0 is the place of the element that met none.
      places = k % 2 == 0 ? bit : padded(rewriter, bit, 0);
    } else {
      places = with_rest(rewriter, chosen_place(rewriter, places, bit, length), places);
    }
    if (k > 2) {
      const std::string more = lead(rewriter, difference, giver, contest.kind);
      rows = with_rest(rewriter, winner(rewriter, first, second, more, contest.kind), rows);
    }
  }
  // A tensor of its own, which leaves the circuit as it is.
  const std::string result = rewriter.part(places, kRowAxis, 0, 1);
  return rewriter.written_over(whole(rewriter, result, {0, count - 1}));
}

Rows rows_along(GraphRewriter& rewriter, const std::string& x, std::int64_t axis) {
  std::vector<bool> is_row(rewriter.shape(x).size(), false);
  is_row[static_cast<std::size_t>(axis)] = true;
  return rows_of(rewriter, x, is_row);
}

std::string as_places(GraphRewriter& rewriter, const std::string& tensor) {
  return rewriter.add("Cast", {tensor}, {{"to", kOnnxInt64}, {"whole", std::int64_t{1}}});
}

std::string place_along(GraphRewriter& rewriter, const std::string& x, std::int64_t axis,
                        const Contest& contest, const Shape& shape) {
  if (rewriter.shape(x)[static_cast<std::size_t>(axis)] < 2) {
    throw Error(ErrorCode::not_supported,
                fmt::format("axis {} has one element, whose place is always 0", axis), "",
                "an axis of two elements at least");
  }
  const Rows rows = rows_along(rewriter, x, axis);
  const std::string place = place_of_winner(rewriter, rows.tensor, rows.giver, contest);
  return as_places(rewriter, rewriter.reshaped(place, shape));
}

std::string gathered(GraphRewriter& rewriter, const std::string& rows,
                     const std::vector<std::int64_t>& places) {
  return rewriter.written_over(
      rewriter.add("Gather", {rows, rewriter.integers(places)}, {{"axis", kRowAxis}}));
}

std::string sum_over(GraphRewriter& rewriter, const std::string& tensor, std::int64_t axis,
                     bool keeps_axis) {
  const std::vector<std::int64_t> axes{axis};
  return rewriter.written_over(rewriter.add(
      "ReduceSum", {tensor}, {{"axes", axes}, {"keepdims", std::int64_t{keeps_axis}}}));
}

// The first elements of each row (batch, rows, n): (batch, rows, count). A lookup for each meeting,
// since the loser has what the winner has not: a + b = max(a, b) + min(a, b). Places keep their
// elements, max(a, b) = a + relu(b - a), so that differences are sums of few lookups.
std::string in_order(GraphRewriter& rewriter, std::string rows, const std::string& giver,
                     const Contest& contest, std::int64_t count) {
  const std::int64_t size = rewriter.shape(rows).back();
  const SortingNetwork network = first_in_order(size, count);
  for (const std::vector<Meeting>& round : network.rounds) {
    // Behind each other: winners, losers, and the row as it was.
    const auto met = static_cast<std::int64_t>(round.size());
    std::vector<std::int64_t> first, second, places(static_cast<std::size_t>(size));
    std::iota(places.begin(), places.end(), 2 * met);
    for (std::int64_t m = 0; m < met; ++m) {
      const Meeting& meeting = round[static_cast<std::size_t>(m)];
      first.push_back(meeting.first);
      second.push_back(meeting.second);
      places[static_cast<std::size_t>(meeting.first)] = m;
      places[static_cast<std::size_t>(meeting.second)] = met + m;
    }
    std::string x = gathered(rewriter, rows, second), y = gathered(rewriter, rows, first);
    if (contest.kind == Tournament::smallest) std::swap(x, y);
    const std::string difference = compared(rewriter, x, y, giver, contest);
    const std::string more = lead(rewriter, difference, giver, contest.kind);
    const std::string best = winner(rewriter, x, y, more, contest.kind),
                      other = winner(rewriter, x, y, more, contest.of_losers());
    const std::string all = rewriter.add("Concat", {best, other, rows}, {{"axis", kRowAxis}});
    rows = gathered(rewriter, rewriter.written_over(all), places);
  }
  return gathered(rewriter, rows, network.order);
}

// Of the pairs (0, 1), (0, 2)... (1, 2)... of elements: 1 where the second one goes before the
// first.
std::string bits_of_pairs(GraphRewriter& rewriter, const std::string& rows,
                          const std::string& giver, const Contest& contest) {
  const std::int64_t size = rewriter.shape(rows).back();
  std::vector<std::int64_t> first, second;
  for (std::int64_t i = 0; i < size; ++i) {
    for (std::int64_t j = i + 1; j < size; ++j) {
      first.push_back(i);
      second.push_back(j);
    }
  }
  const std::string difference = compared(rewriter, gathered(rewriter, rows, first),
                                          gathered(rewriter, rows, second), giver, contest);
  return second_wins(rewriter, difference, contest);
}

// How many elements of its row (batch, rows, n) go before each one but the first: (batch, rows,
// n - 1). The bit of a pair counts for the first one, and what it lacks to 1 for the second.
std::string ranks(GraphRewriter& rewriter, const std::string& rows, const std::string& giver,
                  const Contest& contest) {
  const std::int64_t size = rewriter.shape(rows).back();
  const std::string bit = bits_of_pairs(rewriter, rows, giver, contest);
  const std::string bits = padded(rewriter, padded(rewriter, bit, 1), 0);
  const std::int64_t one = rewriter.shape(bit).back(), zero = one + 1;
  const auto pair = [&](std::int64_t i, std::int64_t j) {
    return i * (2 * size - i - 1) / 2 + j - i - 1;
  };
  std::vector<std::int64_t> more, less;
  for (std::int64_t i = 1; i < size; ++i) {
    for (std::int64_t j = 0; j < size; ++j) {
      if (j == i) continue;
      more.push_back(j > i ? pair(i, j) : one);
      less.push_back(j > i ? zero : pair(j, i));
    }
  }
  const std::string before = rewriter.written_over(
      rewriter.add("Sub", {gathered(rewriter, bits, more), gathered(rewriter, bits, less)}));
  const std::string by_element =
      rewriter.reshaped(before, {1, rewriter.shape(rows)[1], size - 1, size - 1});
  return whole(rewriter, sum_over(rewriter, by_element, 3, false), {0, size - 1});
}

// Element i has its place in a table of its rank for each place asked for.
std::string places_by_rank(GraphRewriter& rewriter, const std::string& rows,
                           const std::string& giver, const Contest& contest, std::int64_t count) {
  const std::int64_t size = rewriter.shape(rows).back();
  const std::string rank = ranks(rewriter, rows, giver, contest);
  Tensor<double> numbers{{size - 1}, {}};
  for (std::int64_t i = 1; i < size; ++i) numbers.data.push_back(static_cast<double>(i));
  const std::string own = rewriter.constant(std::move(numbers));
  std::vector<std::string> places;
  for (std::int64_t r = 0; r < count; ++r) {
    const std::string is_there =
        rewriter.add("Equal", {rank, rewriter.number(static_cast<double>(r))});
    const std::string place = rewriter.add("Where", {is_there, own, rewriter.number(0)});
    places.push_back(sum_over(rewriter, whole(rewriter, place, {0, size - 1}), kRowAxis, true));
  }
  return rewriter.add("Concat", places, {{"axis", kRowAxis}});
}

// Sums of rows of bits (batch, rows, count, 1, n), over the elements up to each one but the last or
// over those behind it: (batch, rows, count, n - 1).
std::string partial_sums(GraphRewriter& rewriter, const std::string& bits, bool behind) {
  Shape shape = rewriter.shape(bits);
  shape[3] = shape[4] - 1;
  const std::string square = rewriter.written_over(rewriter.expanded(bits, shape));
  const std::string part = rewriter.add("Trilu", {square, rewriter.integers({behind ? 1 : 0})},
                                        {{"upper", std::int64_t{behind}}});
  return sum_over(rewriter, rewriter.written_over(part), 4, false);
}

// How many elements are better than the r-th value, or as good and not behind element i, grows with
// i, and is more than r from the value's place on. So the place is the number of elements i of
// which it is not.
std::string places_by_value(GraphRewriter& rewriter, const std::string& rows,
                            const std::string& giver, const Contest& contest, std::int64_t count) {
  const std::int64_t size = rewriter.shape(rows).back();
  std::vector<std::int64_t> value_of, element_of;
  Tensor<double> numbers{{count, 1}, {}};
  for (std::int64_t r = 0; r < count; ++r) {
    numbers.data.push_back(static_cast<double>(r));
    for (std::int64_t i = 0; i < size; ++i) {
      value_of.push_back(r);
      element_of.push_back(i);
    }
  }
  const std::string values = in_order(rewriter, rows, giver, contest, count);
  const std::string difference = compared(rewriter, gathered(rewriter, values, value_of),
                                          gathered(rewriter, rows, element_of), giver, contest);
  const std::string column =
      rewriter.reshaped(difference, {1, rewriter.shape(rows)[1], count, 1, size});
  const std::string is_better = second_wins(rewriter, column, contest),
                    is_as_good = second_wins(rewriter, column, {contest.kind, true});
  const std::string sum = rewriter.add(
      "Add", {partial_sums(rewriter, is_as_good, false), partial_sums(rewriter, is_better, true)});
  const std::string is_before = rewriter.add(
      "LessOrEqual", {whole(rewriter, sum, {0, size}), rewriter.constant(std::move(numbers))});
  return sum_over(rewriter, whole(rewriter, as_number(rewriter, is_before), {0, 1}), 3, false);
}

std::string places_in_order(GraphRewriter& rewriter, const std::string& rows,
                            const std::string& giver, const Contest& contest, std::int64_t count) {
  const std::int64_t size = rewriter.shape(rows).back();
  const std::int64_t by_rank = size * (size - 1) / 2 + count * (size - 1);
  const std::int64_t by_value = first_in_order(size, count).meetings() + count * (3 * size - 1);
  return by_value < by_rank ? places_by_value(rewriter, rows, giver, contest, count)
                            : places_by_rank(rewriter, rows, giver, contest, count);
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
  const auto count = static_cast<std::int64_t>(rewriter.value(node.inputs[1]).values.data.at(0));
  const std::string& x = node.inputs[0];
  const std::int64_t axis = axis_of(rewriter, node, -1);
  const bool gives_places = integer_attribute(node, "output", 0) != 0;
  const Contest contest{
      integer_attribute(node, "largest", 1) == 0 ? Tournament::smallest : Tournament::largest,
      false, count > 1 && gives_places};
  if (count == 1 && gives_places)
    return place_along(rewriter, x, axis, contest, rewriter.shape(node.outputs[0]));
  if (count == 1) {
    const std::vector<std::int64_t> axes{axis};
    const bool smallest = contest.kind == Tournament::smallest;
    return rewriter.add(smallest ? "ReduceMin" : "ReduceMax", {x}, {{"axes", axes}});
  }
  Rows rows = rows_along(rewriter, x, axis);
  const std::string first = gives_places
                                ? places_in_order(rewriter, rows.tensor, rows.giver, contest, count)
                                : in_order(rewriter, rows.tensor, rows.giver, contest, count);
  const std::int64_t size = std::exchange(rows.moved.back(), count);
  const std::string result = from_rows(rewriter, rows, rewriter.written_over(first));
  const std::string root = rewriter.written_over(rewriter.root(result));
  if (!gives_places) {
    rewriter.rules().elements_of[root] = rows.giver;
    return result;
  }
  whole(rewriter, root, {0, size - 1});
  return as_places(rewriter, result);
}

}  // namespace torusml
