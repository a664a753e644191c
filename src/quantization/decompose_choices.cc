#include <algorithm>
#include <cmath>

#include "importer/broadcast.h"
#include "quantization/decompositions.h"
#include "torusml/error.h"

namespace torusml {
namespace {

constexpr std::int64_t kOnnxFloat = 1;

}  // namespace

std::string as_number(GraphRewriter& rewriter, const std::string& tensor) {
  if (!rewriter.is_boolean(tensor)) return tensor;
  return rewriter.add("Cast", {tensor}, {{"to", kOnnxFloat}});
}

// One lookup.
std::string compare_encrypted(GraphRewriter& rewriter, const FloatNode& node) {
  const std::string difference = rewriter.add("Sub", {node.inputs[0], node.inputs[1]});
  return rewriter.add(node.op_type, {difference, rewriter.number(0)});
}

// max(x, y) = y + relu(x - y), min(x, y) = x - relu(x - y): one lookup for each operand but one.
std::string extremum_of_tensors(GraphRewriter& rewriter, const FloatNode& node) {
  std::string result = node.inputs[0];
  for (std::size_t i = 1; i < node.inputs.size(); ++i) {
    const std::string& other = node.inputs[i];
    const bool both = rewriter.is_dependent(result) && rewriter.is_dependent(other);
    if (!both || rewriter.root(result) == rewriter.root(other)) {
      result = rewriter.add(node.op_type, {result, other});
      continue;
    }
    const Shape shape = broadcast_shape(rewriter.shape(result), rewriter.shape(other));
    const std::string x = rewriter.expanded(result, shape), y = rewriter.expanded(other, shape);
    const std::string more = rewriter.add("Relu", {rewriter.add("Sub", {x, y})});
    result =
        node.op_type == "Max" ? rewriter.add("Add", {y, more}) : rewriter.add("Sub", {x, more});
  }
  return result;
}

// A table of the sum of two bits: one lookup.
std::string combine_bits(GraphRewriter& rewriter, const FloatNode& node) {
  const std::string sum = rewriter.add(
      "Add", {as_number(rewriter, node.inputs[0]), as_number(rewriter, node.inputs[1])});
  if (node.op_type == "And") return rewriter.add("Greater", {sum, rewriter.number(1.5)});
  if (node.op_type == "Or") return rewriter.add("Greater", {sum, rewriter.number(0.5)});
  const std::string distance =
      rewriter.add("Abs", {rewriter.add("Sub", {sum, rewriter.number(1)})});
  return rewriter.add("Less", {distance, rewriter.number(0.5)});
}

std::string masked(GraphRewriter& rewriter, const std::string& bit, const std::string& value) {
  const Shape shape = broadcast_shape(rewriter.shape(bit), rewriter.shape(value));
  const double magnitude = rewriter.range(value).magnitude();
  // Wider than twice the values, so that sums with a bit of 0 and of 1 lie apart.
  const double big = 2.25 * (magnitude > 0 ? magnitude : 1);
  const std::string one = rewriter.number(1);
  const std::string values = rewriter.alone(rewriter.add("Mul", {value, one}));
  const std::string bits =
      rewriter.alone(rewriter.add("Mul", {as_number(rewriter, bit), rewriter.number(big)}));
  const std::string sum =
      rewriter.add("Add", {rewriter.expanded(values, shape), rewriter.expanded(bits, shape)});
  const std::string is_set = rewriter.add("Greater", {sum, rewriter.number(big / 2)});
  return rewriter.add(
      "Where", {is_set, rewriter.add("Sub", {sum, rewriter.number(big)}), rewriter.number(0)});
}

// Where(c, a, b) = b + c (a - b): one lookup, none where c is constant.
std::string choose(GraphRewriter& rewriter, const FloatNode& node) {
  const std::string &condition = node.inputs[0], &a = node.inputs[1], &b = node.inputs[2];
  if (!rewriter.is_dependent(condition)) {
    FloatTensor mask = rewriter.value(condition);
    const std::string chosen = rewriter.constant(mask.values);
    for (double& bit : mask.values.data) bit = 1 - bit;
    const std::string other = rewriter.constant(std::move(mask.values));
    return rewriter.add("Add", {rewriter.add("Mul", {a, chosen}), rewriter.add("Mul", {b, other})});
  }
  if (!rewriter.is_dependent(a) && !rewriter.is_dependent(b))
    throw Error(ErrorCode::not_supported, "a choice between constants of another shape");
  return rewriter.add("Add", {b, masked(rewriter, condition, rewriter.add("Sub", {a, b}))});
}

// relu(x) + slope min(x, 0)
std::string parametric_relu(GraphRewriter& rewriter, const FloatNode& node) {
  const std::string negative = rewriter.add("Min", {node.inputs[0], rewriter.number(0)});
  return rewriter.add(
      "Add", {rewriter.add("Relu", {node.inputs[0]}), product(rewriter, negative, node.inputs[1])});
}

}  // namespace torusml
