#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "importer/limits.h"
#include "importer/operator_functions.h"
#include "torusml/error.h"

namespace torusml {
namespace {

Error invalid(std::string message) { return Error(ErrorCode::invalid_model, std::move(message)); }

FloatTensor integers(const std::vector<std::int64_t>& values, Shape shape) {
  return {ElementType::integer, {std::move(shape), {values.begin(), values.end()}}};
}

// Products of the dimensions before and behind an axis.
std::int64_t outer_size(const Shape& shape, std::int64_t axis) {
  return number_of_elements(Shape(shape.begin(), shape.begin() + axis));
}
std::int64_t inner_size(const Shape& shape, std::int64_t axis) {
  return number_of_elements(Shape(shape.begin() + axis + 1, shape.end()));
}

Shape with_axis_replaced(Shape shape, std::int64_t axis, const Shape& by) {
  shape.erase(shape.begin() + axis);
  shape.insert(shape.begin() + axis, by.begin(), by.end());
  return shape;
}

// Takes the entries `indices` along an axis; `axis_shape` replaces that axis.
Tensor<double> take(const Tensor<double>& from, std::int64_t axis,
                    const std::vector<std::int64_t>& indices, const Shape& axis_shape) {
  const std::int64_t outer = outer_size(from.shape, axis), inner = inner_size(from.shape, axis);
  const std::int64_t size = from.shape[axis];
  Tensor<double> to{with_axis_replaced(from.shape, axis, axis_shape), {}};
  to.data.reserve(checked_elements(to.shape));
  for (std::int64_t i = 0; i < outer; ++i) {
    for (std::int64_t index : indices) {
      const auto begin = from.data.begin() + (i * size + index) * inner;
      to.data.insert(to.data.end(), begin, begin + inner);
    }
  }
  return to;
}

// The indices of one axis that a slice takes.
std::vector<std::int64_t> sliced_indices(std::int64_t start, std::int64_t end, std::int64_t step,
                                         std::int64_t size) {
  if (step == 0) throw invalid("a slice has step 0");
  const std::int64_t low = step > 0 ? 0 : -1, high = step > 0 ? size : size - 1;
  const auto place = [&](std::int64_t at) {
    return std::clamp(at < 0 ? std::max(at, -size - 1) + size : at, low, high);
  };
  std::vector<std::int64_t> indices;
  const std::int64_t stop = place(end);
  for (std::int64_t i = place(start); step > 0 ? i < stop : i > stop;) {
    indices.push_back(i);
    if (__builtin_add_overflow(i, step, &i)) break;
  }
  return indices;
}

}  // namespace

FloatTensor constant(const FloatNode& node, const Operands&) {
  if (node.attributes.size() != 1) {
    throw invalid(fmt::format("a Constant has {} values, expected one", node.attributes.size()));
  }
  const auto& [name, value] = *node.attributes.begin();
  if (const auto* tensor = std::get_if<FloatTensor>(&value); tensor && name == "value")
    return *tensor;
  if (name == "value_int") return integers({integer_attribute(node, name, 0)}, {});
  if (name == "value_float") {
    return {ElementType::floating, {{}, {number_attribute(node, name, 0)}}};
  }
  if (name == "value_ints") {
    const std::vector<std::int64_t> values = integers_attribute(node, name);
    return integers(values, {static_cast<std::int64_t>(values.size())});
  }
  if (const auto* values = std::get_if<std::vector<double>>(&value);
      values && name == "value_floats") {
    return {ElementType::floating, {{static_cast<std::int64_t>(values->size())}, *values}};
  }
  throw invalid(fmt::format("attribute '{}' of a Constant has a type that is not ONNX's", name));
}

FloatTensor constant_of_shape(const FloatNode& node, const Operands& operands) {
  FloatTensor result{ElementType::floating, {to_integers(*operands[0]), {}}};
  double value = 0;
  if (const auto found = node.attributes.find("value"); found != node.attributes.end()) {
    const auto* tensor = std::get_if<FloatTensor>(&found->second);
    if (!tensor || tensor->values.data.size() != 1) throw invalid("'value' is not one value");
    result.type = tensor->type;
    value = tensor->values.data.front();
  }
  result.values.data.assign(checked_result(result.values.shape), value);
  return result;
}

FloatTensor range(const FloatNode&, const Operands& operands) {
  for (const FloatTensor* operand : operands) {
    if (operand->values.data.size() != 1) throw invalid("start, limit and delta are not scalars");
  }
  const double start = operands[0]->values.data[0], delta = operands[2]->values.data[0];
  const double count = std::ceil((operands[1]->values.data[0] - start) / delta);
  if (!(std::abs(count) < 0x1p62)) throw invalid(fmt::format("a range of {} values", count));
  FloatTensor result{operands[0]->type, {{static_cast<std::int64_t>(std::max(count, 0.0))}, {}}};
  result.values.data.reserve(static_cast<std::size_t>(checked_result(result.values.shape)));
  for (std::int64_t i = 0; i < result.values.shape[0]; ++i) {
    result.values.data.push_back(start + static_cast<double>(i) * delta);
  }
  return result;
}

FloatTensor concat(const FloatNode& node, const Operands& operands) {
  const Shape& first = operands[0]->values.shape;
  if (!node.attributes.count("axis")) throw invalid("attribute 'axis' is missing");
  const std::int64_t axis =
      normalized_axis(integer_attribute(node, "axis", 0), static_cast<std::int64_t>(first.size()));
  FloatTensor result{operands[0]->type, {first, {}}};
  result.values.shape[axis] = 0;
  for (const FloatTensor* operand : operands) {
    Shape other = operand->values.shape;
    if (other.size() != first.size()) throw Error(ErrorCode::wrong_shape, "ranks differ");
    result.values.shape[axis] += other[axis];
    other[axis] = first[axis];
    if (other != first) {
      throw Error(ErrorCode::wrong_shape,
                  fmt::format("shapes {} and {} do not concatenate along axis {}", to_string(first),
                              to_string(operand->values.shape), axis));
    }
  }
  result.values.data.reserve(checked_result(result.values.shape));
  for (std::int64_t i = 0; i < outer_size(first, axis); ++i) {
    for (const FloatTensor* operand : operands) {
      const std::int64_t block =
          operand->values.shape[axis] * inner_size(operand->values.shape, axis);
      const auto begin = operand->values.data.begin() + i * block;
      result.values.data.insert(result.values.data.end(), begin, begin + block);
    }
  }
  return result;
}

FloatTensor gather(const FloatNode& node, const Operands& operands) {
  const Tensor<double>& from = operands[0]->values;
  const std::int64_t axis = normalized_axis(integer_attribute(node, "axis", 0),
                                            static_cast<std::int64_t>(from.shape.size()));
  checked_result(with_axis_replaced(from.shape, axis, operands[1]->values.shape));
  std::vector<std::int64_t> indices = to_integers(*operands[1]);
  for (std::int64_t& index : indices) {
    if (index < -from.shape[axis] || index >= from.shape[axis]) {
      throw invalid(fmt::format("index {} is outside an axis of size {}", index, from.shape[axis]));
    }
    if (index < 0) index += from.shape[axis];
  }
  return {operands[0]->type, take(from, axis, indices, operands[1]->values.shape)};
}

FloatTensor slice(const FloatNode&, const Operands& operands) {
  FloatTensor result = *operands[0];
  const auto rank = static_cast<std::int64_t>(result.values.shape.size());
  const std::vector<std::int64_t> starts = to_integers(*operands[1]),
                                  ends = to_integers(*operands[2]);
  std::vector<std::int64_t> axes, steps(starts.size(), 1);
  for (std::size_t i = 0; i < starts.size(); ++i) axes.push_back(static_cast<std::int64_t>(i));
  if (operands.size() > 3 && operands[3]) axes = to_integers(*operands[3]);
  if (operands.size() > 4 && operands[4]) steps = to_integers(*operands[4]);
  if (ends.size() != starts.size() || axes.size() != starts.size() ||
      steps.size() != starts.size()) {
    throw invalid("starts, ends, axes and steps of a slice differ in their length");
  }
  for (std::size_t i = 0; i < starts.size(); ++i) {
    const std::int64_t axis = normalized_axis(axes[i], rank);
    const auto indices = sliced_indices(starts[i], ends[i], steps[i], result.values.shape[axis]);
    result.values = take(result.values, axis, indices, {static_cast<std::int64_t>(indices.size())});
  }
  return result;
}

}  // namespace torusml
