#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "importer/broadcast.h"
#include "importer/operator_functions.h"
#include "torusml/error.h"

namespace torusml {
namespace {

void check_floats(const FloatTensor& tensor) {
  if (tensor.type == ElementType::floating) return;
  throw Error(ErrorCode::wrong_dtype, "operand is not of a floating type");
}

std::int64_t product(Shape::const_iterator first, Shape::const_iterator last) {
  return number_of_elements(Shape(first, last));
}

// The sum of the exponentials of a row, and its largest element.
struct Exponentials {
  double largest = -INFINITY, sum = 0;
};

template <class Result>
FloatTensor over_axis(const FloatNode& node, const FloatTensor& x, const Result& result_of) {
  check_floats(x);
  FloatTensor result = x;
  const Shape& shape = x.values.shape;
  const auto rank = static_cast<std::int64_t>(shape.size());
  // `flattened`: up to opset 12 all axes from the given one on are one.
  const bool flattened = integer_attribute(node, "flattened", 0) != 0;
  const std::int64_t axis =
      normalized_axis(integer_attribute(node, "axis", flattened ? 1 : -1), rank);
  const auto at = shape.begin() + axis;
  const std::int64_t size = flattened ? product(at, shape.end()) : *at;
  const std::int64_t inner = flattened ? 1 : product(at + 1, shape.end());
  const std::int64_t outer = product(shape.begin(), at);
  for (std::int64_t row = 0; row < outer * inner; ++row) {
    double* values = result.values.data.data() + row / inner * size * inner + row % inner;
    Exponentials all;
    for (std::int64_t i = 0; i < size; ++i) all.largest = std::max(all.largest, values[i * inner]);
    for (std::int64_t i = 0; i < size; ++i) all.sum += std::exp(values[i * inner] - all.largest);
    for (std::int64_t i = 0; i < size; ++i)
      values[i * inner] = result_of(values[i * inner] - all.largest, all.sum);
  }
  return result;
}

// Each block of `size` consecutive elements with mean 0 and variance 1.
void normalize_blocks(std::vector<double>& values, std::int64_t size, double epsilon,
                      bool centred = true) {
  const auto count = static_cast<double>(size);
  for (auto block = values.begin(); block != values.end(); block += size) {
    double mean = 0, variance = 0;
    for (auto v = block; v != block + size; ++v) mean += *v / count;
    if (!centred) mean = 0;
    for (auto v = block; v != block + size; ++v) variance += (*v - mean) * (*v - mean) / count;
    for (auto v = block; v != block + size; ++v) *v = (*v - mean) / std::sqrt(variance + epsilon);
  }
}

void scale_and_shift(Tensor<double>& x, const Tensor<double>& scale, const Tensor<double>* shift) {
  const Broadcast factor(scale, x.shape);
  for (std::size_t i = 0; i < x.data.size(); ++i) x.data[i] *= factor[i];
  if (!shift) return;
  const Broadcast term(*shift, x.shape);
  for (std::size_t i = 0; i < x.data.size(); ++i) x.data[i] += term[i];
}

// One value for each channel (axis 1).
Tensor<double> by_channel(const FloatTensor& values, const Shape& shape) {
  const std::int64_t count = number_of_elements(values.values.shape);
  if (values.values.shape.size() != 1 || count == 0 || shape[1] % count != 0) {
    throw Error(ErrorCode::wrong_shape, fmt::format("a scale or bias of shape {} for {} channels",
                                                    to_string(values.values.shape), shape[1]));
  }
  Shape view(shape.size() - 1, 1);
  view[0] = shape[1];
  Tensor<double> result{view, {}};
  for (std::int64_t c = 0; c < shape[1]; ++c)
    result.data.push_back(values.values.data[static_cast<std::size_t>(c * count / shape[1])]);
  return result;
}

void check_channels(const FloatTensor& x) {
  check_floats(x);
  if (x.values.shape.size() >= 3) return;
  throw Error(ErrorCode::wrong_shape,
              fmt::format("the operand {} has no batch, channel and spatial axes",
                          to_string(x.values.shape)));
}

constexpr float kEpsilon = 1e-5f;

}  // namespace

FloatTensor softmax(const FloatNode& node, const Operands& operands) {
  return over_axis(node, *operands[0], [](double x, double sum) { return std::exp(x) / sum; });
}

FloatTensor log_softmax(const FloatNode& node, const Operands& operands) {
  return over_axis(node, *operands[0], [](double x, double sum) { return x - std::log(sum); });
}

FloatTensor layer_normalization(const FloatNode& node, const Operands& operands) {
  check_floats(*operands[0]);
  FloatTensor result = *operands[0];
  const Shape& shape = result.values.shape;
  const std::int64_t axis =
      normalized_axis(integer_attribute(node, "axis", -1), static_cast<std::int64_t>(shape.size()));
  normalize_blocks(result.values.data, product(shape.begin() + axis, shape.end()),
                   number_attribute(node, "epsilon", kEpsilon),
                   node.op_type == "LayerNormalization");
  const bool has_bias = operands.size() > 2 && operands[2];
  scale_and_shift(result.values, operands[1]->values, has_bias ? &operands[2]->values : nullptr);
  return result;
}

FloatTensor instance_normalization(const FloatNode& node, const Operands& operands) {
  check_channels(*operands[0]);
  FloatTensor result = *operands[0];
  const Shape& shape = result.values.shape;
  normalize_blocks(result.values.data, product(shape.begin() + 2, shape.end()),
                   number_attribute(node, "epsilon", kEpsilon));
  const Tensor<double> shift = by_channel(*operands[2], shape);
  scale_and_shift(result.values, by_channel(*operands[1], shape), &shift);
  return result;
}

FloatTensor group_normalization(const FloatNode& node, const Operands& operands) {
  check_channels(*operands[0]);
  FloatTensor result = *operands[0];
  const Shape& shape = result.values.shape;
  const std::int64_t groups = integer_attribute(node, "num_groups", 0);
  if (groups < 1 || shape[1] % groups != 0) {
    throw Error(ErrorCode::invalid_model,
                fmt::format("{} groups do not divide {} channels", groups, shape[1]));
  }
  normalize_blocks(result.values.data, product(shape.begin() + 1, shape.end()) / groups,
                   number_attribute(node, "epsilon", kEpsilon));
  const Tensor<double> shift = by_channel(*operands[2], shape);
  scale_and_shift(result.values, by_channel(*operands[1], shape), &shift);
  return result;
}

}  // namespace torusml
