#include "importer/operators.h"

#include <fmt/format.h>

#include <cmath>
#include <limits>
#include <map>

#include "importer/onnx.h"
#include "importer/operator_functions.h"
#include "torusml/error.h"

namespace torusml {
namespace {

constexpr int kAny = std::numeric_limits<int>::max();
using Names = std::vector<std::string>;

struct Parameter {
  const char* name;
  double otherwise;  // ONNX's default
};

Operator row(OperatorRole role, const char* op_type,
             std::function<FloatTensor(const FloatNode&, const Operands&)> evaluate, int min_inputs,
             int max_inputs, int data_inputs, Names attributes = {}) {
  return {.domain = "",
          .op_type = op_type,
          .role = role,
          .min_inputs = min_inputs,
          .max_inputs = max_inputs,
          .data_inputs = data_inputs,
          .attributes = std::move(attributes),
          .is_quantizer = false,
          .evaluate = std::move(evaluate)};
}

// A function of one number: f(x, a, b), where a and b are attributes.
Operator scalar_row(const char* op_type, ScalarFunction function, Parameter a = {"", 0},
                    Parameter b = {"", 0}) {
  Names attributes;
  for (const Parameter& parameter : {a, b}) {
    if (*parameter.name) attributes.push_back(parameter.name);
  }
  const auto evaluate = [=](const FloatNode& node, const Operands& operands) {
    return map_scalar(function, number_attribute(node, a.name, a.otherwise),
                      number_attribute(node, b.name, b.otherwise), *operands[0]);
  };
  return row(OperatorRole::elementwise, op_type, evaluate, 1, 1, 1, attributes);
}

Operator arithmetic_row(const char* op_type, double (*function)(double, double), int min_inputs = 2,
                        int max_inputs = 2) {
  const auto evaluate = [=](const FloatNode&, const Operands& operands) {
    return arithmetic(function, operands);
  };
  return row(OperatorRole::elementwise, op_type, evaluate, min_inputs, max_inputs, kAny);
}

Operator compare_row(const char* op_type, bool (*function)(double, double)) {
  const auto evaluate = [=](const FloatNode&, const Operands& operands) {
    return compare(function, operands);
  };
  return row(OperatorRole::elementwise, op_type, evaluate, 2, 2, kAny);
}

Operator logical_row(const char* op_type, bool (*function)(bool, bool)) {
  const auto evaluate = [=](const FloatNode&, const Operands& operands) {
    return logical(function, operands);
  };
  return row(OperatorRole::elementwise, op_type, evaluate, 2, 2, kAny);
}

Operator reduce_row(const char* op_type) {
  return row(OperatorRole::mixing, op_type, reduce, 1, 2, 1,
             {"axes", "keepdims", "noop_with_empty_axes"});
}

using Function = FloatTensor (*)(const FloatNode&, const Operands&);

Operator quantizer_row(const char* domain, const char* op_type, Function function, int min_inputs,
                       int max_inputs, Names attributes) {
  Operator result = row(OperatorRole::elementwise, op_type, function, min_inputs, max_inputs, 1,
                        std::move(attributes));
  result.domain = domain;
  result.is_quantizer = true;
  return result;
}

std::vector<Operator> scalar_rows() {
  return {
      scalar_row("Abs", [](double x, double, double) { return std::abs(x); }),
      scalar_row("Acos", [](double x, double, double) { return std::acos(x); }),
      scalar_row("Acosh", [](double x, double, double) { return std::acosh(x); }),
      scalar_row("Asin", [](double x, double, double) { return std::asin(x); }),
      scalar_row("Asinh", [](double x, double, double) { return std::asinh(x); }),
      scalar_row("Atan", [](double x, double, double) { return std::atan(x); }),
      scalar_row("Atanh", [](double x, double, double) { return std::atanh(x); }),
      scalar_row("Ceil", [](double x, double, double) { return std::ceil(x); }),
      scalar_row("Celu", scalar::celu, {"alpha", 1}),
      scalar_row("Cos", [](double x, double, double) { return std::cos(x); }),
      scalar_row("Cosh", [](double x, double, double) { return std::cosh(x); }),
      scalar_row("Elu", scalar::elu, {"alpha", 1}),
      scalar_row("Erf", [](double x, double, double) { return std::erf(x); }),
      scalar_row("Exp", [](double x, double, double) { return std::exp(x); }),
      scalar_row("Floor", [](double x, double, double) { return std::floor(x); }),
      scalar_row("HardSigmoid", scalar::hard_sigmoid, {"alpha", 0.2}, {"beta", 0.5}),
      scalar_row("HardSwish", scalar::hard_swish),
      scalar_row("LeakyRelu", [](double x, double alpha, double) { return x < 0 ? alpha * x : x; },
                 {"alpha", 0.01}),
      scalar_row("Log", [](double x, double, double) { return std::log(x); }),
      scalar_row("Mish", scalar::mish),
      scalar_row("Neg", [](double x, double, double) { return -x; }),
      scalar_row("Reciprocal", [](double x, double, double) { return 1 / x; }),
      scalar_row("Relu", [](double x, double, double) { return x > 0 ? x : 0; }),
      scalar_row("Round", [](double x, double, double) { return std::nearbyint(x); }),
      scalar_row("Selu", scalar::selu, {"alpha", 1.67326319217681884765625},
                 {"gamma", 1.05070102214813232421875}),
      scalar_row("Shrink", scalar::shrink, {"bias", 0}, {"lambd", 0.5}),
      scalar_row("Sigmoid", scalar::sigmoid),
      scalar_row("Sign", [](double x, double, double) { return double(x > 0) - double(x < 0); }),
      scalar_row("Sin", [](double x, double, double) { return std::sin(x); }),
      scalar_row("Sinh", [](double x, double, double) { return std::sinh(x); }),
      scalar_row("Softplus", scalar::softplus),
      scalar_row("Softsign", [](double x, double, double) { return x / (1 + std::abs(x)); }),
      scalar_row("Sqrt", [](double x, double, double) { return std::sqrt(x); }),
      scalar_row(
          "Swish",
          [](double x, double alpha, double) { return x * scalar::sigmoid(alpha * x, 0, 0); },
          {"alpha", 1}),
      scalar_row("Tan", [](double x, double, double) { return std::tan(x); }),
      scalar_row("Tanh", [](double x, double, double) { return std::tanh(x); }),
      scalar_row("ThresholdedRelu",
                 [](double x, double alpha, double) { return x > alpha ? x : 0; }, {"alpha", 1}),
  };
}

std::vector<Operator> broadcasting_rows() {
  constexpr OperatorRole kElementwise = OperatorRole::elementwise;
  return {
      arithmetic_row("Add", [](double a, double b) { return a + b; }),
      arithmetic_row("Sub", [](double a, double b) { return a - b; }),
      arithmetic_row("Mul", [](double a, double b) { return a * b; }),
      arithmetic_row(
          "Min", [](double a, double b) { return b < a ? b : a; }, 1, kAny),
      arithmetic_row(
          "Max", [](double a, double b) { return b > a ? b : a; }, 1, kAny),
      arithmetic_row("PRelu", [](double x, double slope) { return x < 0 ? slope * x : x; }),
      compare_row("Equal", [](double a, double b) { return a == b; }),
      compare_row("Greater", [](double a, double b) { return a > b; }),
      compare_row("GreaterOrEqual", [](double a, double b) { return a >= b; }),
      compare_row("Less", [](double a, double b) { return a < b; }),
      compare_row("LessOrEqual", [](double a, double b) { return a <= b; }),
      logical_row("And", [](bool a, bool b) { return a && b; }),
      logical_row("Or", [](bool a, bool b) { return a || b; }),
      logical_row("Xor", [](bool a, bool b) { return a != b; }),
      row(kElementwise, "Div", divide, 2, 2, kAny),
      row(kElementwise, "Pow", power, 2, 2, kAny),
      row(kElementwise, "Mod", modulo, 2, 2, 1, {"fmod"}),
      row(kElementwise, "Where", where, 3, 3, kAny),
      row(kElementwise, "Not", logical_not, 1, 1, 1),
      row(kElementwise, "Gelu", gelu, 1, 1, 1, {"approximate"}),
      row(kElementwise, "Clip", clip, 1, 3, 1, {"min", "max"}),
      row(kElementwise, "Identity", identity, 1, 1, 1),
      row(kElementwise, "Dropout", dropout, 1, 3, 1, {"ratio", "seed"}),
      row(kElementwise, "Cast", cast, 1, 1, 1, {"to", "saturate", "round_mode"}),
      row(kElementwise, "BatchNormalization", batch_normalization, 5, 5, 1,
          {"epsilon", "momentum", "training_mode"}),
  };
}

std::vector<Operator> other_rows() {
  constexpr OperatorRole kReshaping = OperatorRole::reshaping, kMixing = OperatorRole::mixing,
                         kConstants = OperatorRole::constants_only;
  const Names linear = {"axis", "saturate", "block_size", "output_dtype", "precision"};
  const Names quantizer = {"signed", "narrow", "rounding_mode"};
  return {
      quantizer_row("onnx.brevitas", "Quant", quant, 4, 4, quantizer),
      quantizer_row("qonnx.custom_op.general", "Quant", quant, 4, 4, quantizer),
      quantizer_row("onnx.brevitas", "Trunc", truncate, 5, 6, quantizer),
      quantizer_row("qonnx.custom_op.general", "Trunc", truncate, 5, 6, quantizer),
      quantizer_row("", "QuantizeLinear", quantize_linear, 2, 3, linear),
      quantizer_row("", "DequantizeLinear", dequantize_linear, 2, 3,
                    {"axis", "block_size", "output_dtype"}),
      row(kMixing, "Gemm", gemm, 2, 3, kAny, {"alpha", "beta", "transA", "transB"}),
      row(kMixing, "MatMul", matmul, 2, 2, kAny),
      row(kMixing, "Conv", convolution, 2, 3, 1,
          {"auto_pad", "dilations", "group", "kernel_shape", "pads", "strides"}),
      row(kMixing, "AveragePool", average_pool, 1, 1, 1,
          {"auto_pad", "ceil_mode", "count_include_pad", "dilations", "kernel_shape", "pads",
           "strides"}),
      row(kMixing, "MaxPool", max_pool, 1, 1, 1,
          {"auto_pad", "ceil_mode", "dilations", "kernel_shape", "pads", "storage_order",
           "strides"}),
      row(kMixing, "GlobalMaxPool", max_pool, 1, 1, 1),
      row(kMixing, "ConvTranspose", transposed_convolution, 2, 3, 1,
          {"auto_pad", "dilations", "group", "kernel_shape", "output_padding", "output_shape",
           "pads", "strides"}),
      row(kMixing, "GlobalAveragePool", reduce, 1, 1, 1),
      reduce_row("ReduceMean"),
      reduce_row("ReduceSum"),
      reduce_row("ReduceMax"),
      reduce_row("ReduceMin"),
      reduce_row("ReduceL1"),
      reduce_row("ReduceL2"),
      reduce_row("ReduceSumSquare"),
      reduce_row("ReduceLogSum"),
      reduce_row("ReduceLogSumExp"),
      row(kMixing, "ArgMax", place_of_extremum, 1, 1, 1, {"axis", "keepdims", "select_last_index"}),
      row(kMixing, "ArgMin", place_of_extremum, 1, 1, 1, {"axis", "keepdims", "select_last_index"}),
      row(kMixing, "TopK", top_k, 2, 2, 1, {"axis", "largest", "sorted"}),
      row(kMixing, "Softmax", softmax, 1, 1, 1, {"axis"}),
      row(kMixing, "LogSoftmax", log_softmax, 1, 1, 1, {"axis"}),
      row(kMixing, "LayerNormalization", layer_normalization, 2, 3, 1,
          {"axis", "epsilon", "stash_type"}),
      row(kMixing, "RMSNormalization", layer_normalization, 2, 2, 1,
          {"axis", "epsilon", "stash_type"}),
      row(kMixing, "InstanceNormalization", instance_normalization, 3, 3, 1, {"epsilon"}),
      row(kMixing, "GroupNormalization", group_normalization, 3, 3, 1,
          {"epsilon", "num_groups", "stash_type"}),
      row(kMixing, "Pad", pad, 2, 4, 1, {"mode"}),
      row(kMixing, "Concat", concat, 1, kAny, kAny, {"axis"}),
      row(kMixing, "Gather", gather, 2, 2, 1, {"axis"}),
      row(kMixing, "Slice", slice, 3, 5, 1),
      row(kMixing, "Split", split, 1, 2, 1, {"axis", "split", "num_outputs"}),
      row(kMixing, "Tile", tile, 2, 2, 1),
      row(kMixing, "Trilu", trilu, 1, 2, 1, {"upper"}),
      row(kMixing, "Resize", resize, 1, 4, 1,
          {"antialias", "axes", "coordinate_transformation_mode", "cubic_coeff_a",
           "exclude_outside", "extrapolation_value", "keep_aspect_ratio_policy", "mode",
           "nearest_mode"}),
      row(kMixing, "Transpose", transpose, 1, 1, 1, {"perm"}),
      row(kMixing, "Expand", expand, 2, 2, 1),
      row(kReshaping, "Reshape", reshape, 2, 2, 1, {"allowzero"}),
      row(kReshaping, "Flatten", flatten, 1, 1, 1, {"axis"}),
      row(kReshaping, "Squeeze", squeeze, 1, 2, 1, {"axes"}),
      row(kReshaping, "Unsqueeze", unsqueeze, 1, 2, 1, {"axes"}),
      row(kConstants, "Shape", shape_of, 1, 1, 1, {"start", "end"}),
      row(kConstants, "Size", size_of, 1, 1, 1),
      row(kConstants, "Constant", constant, 0, 0, 0,
          {"value", "value_int", "value_ints", "value_float", "value_floats"}),
      row(kConstants, "ConstantOfShape", constant_of_shape, 1, 1, 0, {"value"}),
      row(kConstants, "Range", range, 3, 3, 0),
  };
}

using Table = std::map<std::string, Operator, std::less<>>;

const Table& table() {
  static const Table operators = [] {
    Table all;
    for (auto rows : {scalar_rows(), broadcasting_rows(), other_rows()}) {
      for (Operator& op : rows) all.emplace(qualified_name(op.domain, op.op_type), std::move(op));
    }
    return all;
  }();
  return operators;
}

template <class T>
T attribute(const FloatNode& node, const std::string& name, T otherwise) {
  const auto found = node.attributes.find(name);
  if (found == node.attributes.end()) return otherwise;
  if (const T* value = std::get_if<T>(&found->second)) return *value;
  throw Error(ErrorCode::invalid_model, fmt::format("attribute '{}' has the wrong type", name));
}

}  // namespace

const Operator* find_operator(std::string_view domain, std::string_view op_type) {
  const auto found = table().find(qualified_name(std::string(domain), std::string(op_type)));
  return found == table().end() ? nullptr : &found->second;
}

std::string qualified_name(const std::string& domain, const std::string& op_type) {
  return domain.empty() ? op_type : domain + "." + op_type;
}

std::vector<std::string> supported_operators() {
  std::vector<std::string> names;
  for (const auto& [name, op] : table()) names.push_back(name);
  return names;
}

std::string describe(const FloatNode& node) {
  return fmt::format("node '{}' ({})", node.name, qualified_name(node.domain, node.op_type));
}

double number_attribute(const FloatNode& node, const std::string& name, double otherwise) {
  return attribute(node, name, otherwise);
}

std::int64_t integer_attribute(const FloatNode& node, const std::string& name,
                               std::int64_t otherwise) {
  return attribute(node, name, otherwise);
}

std::string string_attribute(const FloatNode& node, const std::string& name,
                             const std::string& otherwise) {
  return attribute(node, name, otherwise);
}

std::vector<std::int64_t> integers_attribute(const FloatNode& node, const std::string& name) {
  return attribute(node, name, std::vector<std::int64_t>{});
}

std::vector<std::int64_t> to_integers(const FloatTensor& tensor) {
  if (tensor.type == ElementType::boolean) {
    throw Error(ErrorCode::wrong_dtype, "operand is boolean, expected integers");
  }
  constexpr double kLimit = 9223372036854775808.0;  // 2^63
  std::vector<std::int64_t> integers;
  integers.reserve(tensor.values.data.size());
  for (double value : tensor.values.data) {
    if (value != std::trunc(value)) {
      throw Error(ErrorCode::wrong_dtype, fmt::format("operand {} is not an integer", value));
    }
    integers.push_back(value >= kLimit   ? std::numeric_limits<std::int64_t>::max()
                       : value < -kLimit ? std::numeric_limits<std::int64_t>::min()
                                         : static_cast<std::int64_t>(value));
  }
  return integers;
}

std::int64_t normalized_axis(std::int64_t axis, std::int64_t rank) {
  if (axis < -rank || axis >= rank) {
    throw Error(ErrorCode::wrong_shape,
                fmt::format("axis {} does not exist in a tensor of {} axes", axis, rank));
  }
  return axis < 0 ? axis + rank : axis;
}

}  // namespace torusml
