#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "importer/broadcast.h"
#include "importer/limits.h"
#include "importer/operator_functions.h"
#include "torusml/error.h"

namespace torusml {
namespace {

// Axes as an attribute (up to opset 12) or as the second operand.
std::vector<std::int64_t> axes_of(const FloatNode& node, const Operands& operands) {
  if (operands.size() > 1 && operands[1]) return to_integers(*operands[1]);
  return integers_attribute(node, "axes");
}

std::set<std::int64_t> normalized_axes(const std::vector<std::int64_t>& axes, std::int64_t rank) {
  std::set<std::int64_t> result;
  for (std::int64_t axis : axes) {
    if (!result.insert(normalized_axis(axis, rank)).second) {
      throw Error(ErrorCode::invalid_model, fmt::format("axis {} is given twice", axis));
    }
  }
  return result;
}

FloatTensor reshaped(const FloatTensor& tensor, Shape shape) {
  return {tensor.type, {std::move(shape), tensor.values.data}};
}

}  // namespace

FloatTensor reshape(const FloatNode& node, const Operands& operands) {
  const Shape& from = operands[0]->values.shape;
  const bool zero_is_zero = integer_attribute(node, "allowzero", 0) != 0;
  Shape target = to_integers(*operands[1]);
  const auto count = static_cast<std::int64_t>(operands[0]->values.data.size());
  const auto mismatch = [&] {
    return Error(ErrorCode::wrong_shape,
                 fmt::format("a tensor of shape {} cannot take the shape {}", to_string(from),
                             to_string(to_integers(*operands[1]))));
  };
  std::int64_t known = 1, open = -1;
  for (std::size_t i = 0; i < target.size(); ++i) {
    if (target[i] == 0 && !zero_is_zero) {
      if (i >= from.size()) throw mismatch();
      target[i] = from[i];
    }
    if (target[i] == -1 && open < 0) {
      open = static_cast<std::int64_t>(i);
    } else if (target[i] < 0 || __builtin_mul_overflow(known, target[i], &known)) {
      throw mismatch();
    }
  }
  if (open >= 0) {
    if (known == 0 || count % known != 0) throw mismatch();
    target[open] = count / known;
  } else if (known != count) {
    throw mismatch();
  }
  return reshaped(*operands[0], target);
}

FloatTensor flatten(const FloatNode& node, const Operands& operands) {
  const Shape& shape = operands[0]->values.shape;
  const auto rank = static_cast<std::int64_t>(shape.size());
  std::int64_t axis = integer_attribute(node, "axis", 1);
  if (axis < -rank || axis > rank) {
    throw Error(ErrorCode::wrong_shape,
                fmt::format("axis {} does not exist in shape {}", axis, to_string(shape)));
  }
  if (axis < 0) axis += rank;
  const Shape front(shape.begin(), shape.begin() + axis), back(shape.begin() + axis, shape.end());
  return reshaped(*operands[0], {number_of_elements(front), number_of_elements(back)});
}

FloatTensor squeeze(const FloatNode& node, const Operands& operands) {
  const Shape& from = operands[0]->values.shape;
  const auto axes =
      normalized_axes(axes_of(node, operands), static_cast<std::int64_t>(from.size()));
  Shape shape;
  for (std::size_t i = 0; i < from.size(); ++i) {
    const bool named = axes.count(static_cast<std::int64_t>(i)) > 0;
    if (named && from[i] != 1) {
      throw Error(ErrorCode::wrong_shape,
                  fmt::format("axis {} of shape {} is not of size 1", i, to_string(from)));
    }
    if (!named && (!axes.empty() || from[i] != 1)) shape.push_back(from[i]);
  }
  return reshaped(*operands[0], shape);
}

FloatTensor unsqueeze(const FloatNode& node, const Operands& operands) {
  const std::vector<std::int64_t> given = axes_of(node, operands);
  Shape shape = operands[0]->values.shape;
  const auto axes = normalized_axes(given, static_cast<std::int64_t>(shape.size() + given.size()));
  for (std::int64_t axis : axes) shape.insert(shape.begin() + axis, 1);
  return reshaped(*operands[0], shape);
}

FloatTensor transpose(const FloatNode& node, const Operands& operands) {
  const Tensor<double>& from = operands[0]->values;
  const std::size_t rank = from.shape.size();
  std::vector<std::int64_t> order = integers_attribute(node, "perm");
  if (order.empty()) {
    for (std::size_t i = rank; i-- > 0;) order.push_back(static_cast<std::int64_t>(i));
  }
  if (order.size() != rank || normalized_axes(order, rank).size() != rank) {
    throw Error(ErrorCode::invalid_model, fmt::format("perm has {} axes, the operand {} has {}",
                                                      order.size(), to_string(from.shape), rank));
  }
  Shape strides(rank, 1), shape(rank);
  for (std::size_t i = rank; i-- > 1;) strides[i - 1] = strides[i] * from.shape[i];
  std::vector<std::int64_t> step(rank);
  for (std::size_t i = 0; i < rank; ++i) {
    const std::int64_t axis = normalized_axis(order[i], rank);
    shape[i] = from.shape[axis];
    step[i] = strides[axis];
  }
  FloatTensor result{operands[0]->type, {shape, std::vector<double>(from.data.size())}};
  Shape at(rank, 0);
  std::int64_t offset = 0;
  for (double& value : result.values.data) {
    value = from.data[offset];
    for (std::size_t i = rank; i-- > 0;) {  // odometer
      offset += step[i];
      if (++at[i] < shape[i]) break;
      offset -= step[i] * shape[i];
      at[i] = 0;
    }
  }
  return result;
}

FloatTensor expand(const FloatNode&, const Operands& operands) {
  const Shape target = to_integers(*operands[1]);
  const Shape shape = broadcast_shape(operands[0]->values.shape, target);
  checked_result(shape);
  return {operands[0]->type, {shape, broadcast_to(operands[0]->values, shape)}};
}

FloatTensor shape_of(const FloatNode& node, const Operands& operands) {
  const Shape& shape = operands[0]->values.shape;
  const auto rank = static_cast<std::int64_t>(shape.size());
  const auto clamp = [rank](std::int64_t axis) {
    return std::clamp(axis < 0 ? axis + rank : axis, std::int64_t{0}, rank);
  };
  const std::int64_t start = clamp(integer_attribute(node, "start", 0));
  const std::int64_t end = std::max(start, clamp(integer_attribute(node, "end", rank)));
  FloatTensor result{ElementType::integer, {{end - start}, {}}};
  result.values.data.assign(shape.begin() + start, shape.begin() + end);
  return result;
}

FloatTensor size_of(const FloatNode&, const Operands& operands) {
  return {ElementType::integer, {{}, {static_cast<double>(operands[0]->values.data.size())}}};
}

}  // namespace torusml
