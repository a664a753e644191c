#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "importer/broadcast.h"
#include "importer/limits.h"
#include "importer/operator_functions.h"
#include "torusml/error.h"

namespace torusml {
namespace {

[[noreturn]] void throw_type(const char* message) { throw Error(ErrorCode::wrong_dtype, message); }

const FloatTensor& numbers(const FloatTensor& tensor) {
  if (tensor.type == ElementType::boolean) throw_type("operand is boolean, expected numbers");
  return tensor;
}

const FloatTensor& booleans(const FloatTensor& tensor) {
  if (tensor.type != ElementType::boolean) throw_type("operand is not boolean");
  return tensor;
}

template <class Function>
FloatTensor zip(ElementType type, const FloatTensor& a, const FloatTensor& b, Function function) {
  FloatTensor result{type, {broadcast_shape(a.values.shape, b.values.shape), {}}};
  result.values.data.resize(static_cast<std::size_t>(checked_result(result.values.shape)));
  const Broadcast x(a.values, result.values.shape), y(b.values, result.values.shape);
  for (std::size_t i = 0; i < result.values.data.size(); ++i) {
    result.values.data[i] = function(x[i], y[i]);
  }
  return result;
}

// A vector of one value per channel (axis 1), as seen by a tensor of the given shape.
Tensor<double> per_channel(const FloatTensor& values, const Shape& shape, const char* what) {
  if (values.values.shape.size() != 1 || values.values.shape[0] != shape[1]) {
    throw Error(ErrorCode::wrong_shape,
                fmt::format("{} has shape {}, but the operand {} has {} channels", what,
                            to_string(values.values.shape), to_string(shape), shape[1]));
  }
  Shape view(shape.size() - 1, 1);
  view[0] = shape[1];
  return {view, values.values.data};
}

double bound(const FloatNode& node, const Operands& operands, std::size_t index, const char* name,
             double otherwise) {
  if (index >= operands.size() || !operands[index]) return number_attribute(node, name, otherwise);
  if (operands[index]->values.data.size() != 1) {
    throw Error(ErrorCode::wrong_shape, fmt::format("'{}' has {} values, expected one", name,
                                                    operands[index]->values.data.size()));
  }
  return operands[index]->values.data.front();
}

}  // namespace

FloatTensor map_scalar(ScalarFunction function, double a, double b, const FloatTensor& x) {
  FloatTensor result = numbers(x);
  for (double& value : result.values.data) value = function(value, a, b);
  return result;
}

FloatTensor arithmetic(double (*function)(double, double), const Operands& operands) {
  FloatTensor result = numbers(*operands[0]);
  for (std::size_t i = 1; i < operands.size(); ++i) {
    if (operands[i]->type != result.type) throw_type("operands differ in their type");
    result = zip(result.type, result, *operands[i], function);
  }
  return result;
}

FloatTensor compare(bool (*function)(double, double), const Operands& operands) {
  if (operands[0]->type != operands[1]->type) throw_type("operands differ in their type");
  return zip(ElementType::boolean, *operands[0], *operands[1], function);
}

FloatTensor logical(bool (*function)(bool, bool), const Operands& operands) {
  return zip(ElementType::boolean, booleans(*operands[0]), booleans(*operands[1]),
             [function](double a, double b) { return function(a != 0, b != 0) ? 1.0 : 0.0; });
}

FloatTensor identity(const FloatNode&, const Operands& operands) { return *operands[0]; }

FloatTensor dropout(const FloatNode&, const Operands& operands) {
  if (operands.size() > 2 && operands[2] && operands[2]->values.data != std::vector<double>{0}) {
    throw Error(ErrorCode::not_supported, "dropout is in training mode", "",
                "model.eval() before the export");
  }
  return *operands[0];
}

FloatTensor gelu(const FloatNode& node, const Operands& operands) {
  const std::string approximate = string_attribute(node, "approximate", "none");
  if (approximate != "none" && approximate != "tanh") {
    throw Error(ErrorCode::not_supported, fmt::format("approximation '{}'", approximate));
  }
  const bool exact = approximate == "none";
  FloatTensor result = numbers(*operands[0]);
  for (double& x : result.values.data) x = exact ? scalar::gelu(x) : scalar::gelu_tanh(x);
  return result;
}

FloatTensor logical_not(const FloatNode&, const Operands& operands) {
  FloatTensor result = booleans(*operands[0]);
  for (double& value : result.values.data) value = value == 0;
  return result;
}

FloatTensor divide(const FloatNode&, const Operands& operands) {
  if (operands[0]->type != ElementType::integer) {
    return arithmetic([](double a, double b) { return a / b; }, operands);
  }
  for (double value : operands[1]->values.data) {
    if (value == 0) throw Error(ErrorCode::non_finite_value, "an integer is divided by 0");
  }
  return arithmetic([](double a, double b) { return std::trunc(a / b); }, operands);
}

// With fmod=1 the result has the sign of the dividend, else that of the divisor.
FloatTensor modulo(const FloatNode& node, const Operands& operands) {
  if (integer_attribute(node, "fmod", 0) != 0)
    return arithmetic([](double a, double b) { return std::fmod(a, b); }, operands);
  return arithmetic([](double a, double b) { return a - b * std::floor(a / b); }, operands);
}

// The exponent may be of another type than the base.
FloatTensor power(const FloatNode&, const Operands& operands) {
  const bool truncates = numbers(*operands[0]).type == ElementType::integer;
  return zip(operands[0]->type, *operands[0], numbers(*operands[1]), [=](double a, double b) {
    return truncates ? std::trunc(std::pow(a, b)) : std::pow(a, b);
  });
}

FloatTensor clip(const FloatNode& node, const Operands& operands) {
  const double low = bound(node, operands, 1, "min", -INFINITY);
  const double high = bound(node, operands, 2, "max", INFINITY);
  FloatTensor result = numbers(*operands[0]);
  // In this order: where the bounds cross, ONNX gives the upper one.
  for (double& value : result.values.data) value = std::min(std::max(value, low), high);
  return result;
}

FloatTensor where(const FloatNode&, const Operands& operands) {
  const FloatTensor &condition = booleans(*operands[0]), &a = *operands[1], &b = *operands[2];
  if (a.type != b.type) throw_type("the two choices differ in their type");
  const Shape shape =
      broadcast_shape(condition.values.shape, broadcast_shape(a.values.shape, b.values.shape));
  FloatTensor result{a.type, {shape, std::vector<double>(checked_result(shape))}};
  const Broadcast chosen(condition.values, shape), x(a.values, shape), y(b.values, shape);
  for (std::size_t i = 0; i < result.values.data.size(); ++i) {
    result.values.data[i] = chosen[i] != 0 ? x[i] : y[i];
  }
  return result;
}

FloatTensor batch_normalization(const FloatNode& node, const Operands& operands) {
  if (integer_attribute(node, "training_mode", 0) != 0) {
    throw Error(ErrorCode::not_supported, "batch normalization is in training mode", "",
                "model.eval() before the export");
  }
  const FloatTensor& x = numbers(*operands[0]);
  const Shape& shape = x.values.shape;
  if (shape.size() < 2) {
    throw Error(ErrorCode::wrong_shape,
                fmt::format("the operand {} has no channel axis", to_string(shape)));
  }
  const double epsilon = number_attribute(node, "epsilon", 1e-5f);
  const Broadcast scale(per_channel(*operands[1], shape, "scale"), shape);
  const Broadcast bias(per_channel(*operands[2], shape, "bias"), shape);
  const Broadcast mean(per_channel(*operands[3], shape, "mean"), shape);
  const Broadcast variance(per_channel(*operands[4], shape, "variance"), shape);
  FloatTensor result = x;
  for (std::size_t i = 0; i < result.values.data.size(); ++i) {
    const double normal = (x.values.data[i] - mean[i]) / std::sqrt(variance[i] + epsilon);
    result.values.data[i] = scale[i] * normal + bias[i];
  }
  return result;
}

}  // namespace torusml
