#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "importer/operator_functions.h"
#include "torusml/error.h"

namespace torusml {
namespace {

// A tensor's lines along one axis: element k of line (o, i) is at (o * size + k) * inner + i.
struct Lines {
  std::size_t axis;
  std::int64_t outer, size, inner;

  std::size_t at(std::int64_t o, std::int64_t k, std::int64_t i) const {
    return static_cast<std::size_t>((o * size + k) * inner + i);
  }
};

Lines lines_of(const Shape& shape, std::int64_t given_axis) {
  const std::int64_t axis = normalized_axis(given_axis, static_cast<std::int64_t>(shape.size()));
  const auto at = shape.begin() + axis;
  const Lines lines{static_cast<std::size_t>(axis), number_of_elements(Shape(shape.begin(), at)),
                    *at, number_of_elements(Shape(at + 1, shape.end()))};
  if (lines.size == 0)
    throw Error(ErrorCode::wrong_shape, fmt::format("axis {} has no elements", axis));
  return lines;
}

const Tensor<double>& numbers(const FloatTensor& tensor) {
  if (tensor.type == ElementType::boolean)
    throw Error(ErrorCode::wrong_dtype, "operand is boolean, expected numbers");
  return tensor.values;
}

}  // namespace

FloatTensor place_of_extremum(const FloatNode& node, const Operands& operands) {
  const Tensor<double>& x = numbers(*operands[0]);
  const Lines lines = lines_of(x.shape, integer_attribute(node, "axis", 0));
  const double sign = node.op_type == "ArgMin" ? -1 : 1;
  const bool takes_last = integer_attribute(node, "select_last_index", 0) != 0;
  FloatTensor result{ElementType::integer, {x.shape, {}}};
  Shape& shape = result.values.shape;
  shape[lines.axis] = 1;
  result.values.data.reserve(static_cast<std::size_t>(number_of_elements(shape)));
  if (integer_attribute(node, "keepdims", 1) == 0)
    shape.erase(shape.begin() + static_cast<std::ptrdiff_t>(lines.axis));
  for (std::int64_t o = 0; o < lines.outer; ++o) {
    for (std::int64_t i = 0; i < lines.inner; ++i) {
      std::int64_t best = 0;
      for (std::int64_t k = 1; k < lines.size; ++k) {
        const double lead = sign * (x.data[lines.at(o, k, i)] - x.data[lines.at(o, best, i)]);
        if (lead > 0 || (takes_last && lead == 0)) best = k;
      }
      result.values.data.push_back(static_cast<double>(best));
    }
  }
  return result;
}

FloatTensor top_k(const FloatNode& node, const Operands& operands) {
  const Tensor<double>& x = numbers(*operands[0]);
  const Lines lines = lines_of(x.shape, integer_attribute(node, "axis", -1));
  const std::vector<std::int64_t> given = to_integers(*operands[1]);
  if (given.size() != 1 || given[0] < 1 || given[0] > lines.size) {
    throw Error(
        ErrorCode::invalid_model,
        fmt::format("K is {}, of an axis of {} elements",
                    given.size() == 1 ? std::to_string(given[0]) : "no single number", lines.size));
  }
  const std::int64_t count = given[0];
  const double sign = integer_attribute(node, "largest", 1) == 0 ? -1 : 1;
  const bool gives_places = integer_attribute(node, "output", 0) != 0;
  FloatTensor result{gives_places ? ElementType::integer : operands[0]->type, {x.shape, {}}};
  result.values.shape[lines.axis] = count;
  result.values.data.resize(static_cast<std::size_t>(number_of_elements(result.values.shape)));
  const Lines to{lines.axis, lines.outer, count, lines.inner};
  std::vector<std::int64_t> order(static_cast<std::size_t>(lines.size));
  for (std::int64_t o = 0; o < lines.outer; ++o) {
    for (std::int64_t i = 0; i < lines.inner; ++i) {
      std::iota(order.begin(), order.end(), std::int64_t{0});
      std::ranges::stable_sort(order, [&](std::int64_t a, std::int64_t b) {
        return sign * x.data[lines.at(o, a, i)] > sign * x.data[lines.at(o, b, i)];
      });
      for (std::int64_t k = 0; k < count; ++k) {
        const std::int64_t place = order[static_cast<std::size_t>(k)];
        result.values.data[to.at(o, k, i)] =
            gives_places ? static_cast<double>(place) : x.data[lines.at(o, place, i)];
      }
    }
  }
  return result;
}

}  // namespace torusml
