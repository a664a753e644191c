#include "importer/linear_shapes.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "importer/broadcast.h"
#include "torusml/error.h"

namespace torusml {
namespace {

std::set<std::int64_t> reduced_axes(const FloatNode& node, const Operands& operands,
                                    std::int64_t rank) {
  std::vector<std::int64_t> given = integers_attribute(node, "axes");
  if (operands.size() > 1 && operands[1]) given = to_integers(*operands[1]);
  std::set<std::int64_t> axes;
  if (node.op_type == "GlobalAveragePool") {
    if (rank < 3) {
      throw Error(
          ErrorCode::wrong_shape,
          fmt::format("the operand has {} axes; batch, channel and spatial axes are needed", rank));
    }
    for (std::int64_t i = 2; i < rank; ++i) axes.insert(i);
  } else if (!given.empty()) {
    for (std::int64_t axis : given) axes.insert(normalized_axis(axis, rank));
  } else if (integer_attribute(node, "noop_with_empty_axes", 0) == 0) {
    for (std::int64_t i = 0; i < rank; ++i) axes.insert(i);
  }
  return axes;
}

}  // namespace

ConvolutionShape convolution_shape(const FloatNode& node, const Shape& operand,
                                   const Shape& weight) {
  ConvolutionShape result;
  const auto mismatch = [&](const std::string& why) {
    return Error(ErrorCode::wrong_shape,
                 fmt::format("a weight of shape {} on an operand of shape {}: {}",
                             to_string(weight), to_string(operand), why));
  };
  if (weight.size() != operand.size() || weight.size() < 3)
    throw mismatch("both need a first axis, channels and the same spatial axes");
  result.groups = integer_attribute(node, "group", 1);
  result.in_channels = operand[1];
  result.out_channels = weight[0];
  if (result.groups < 1 || result.in_channels % result.groups != 0 ||
      result.out_channels % result.groups != 0) {
    throw mismatch(fmt::format("{} groups do not divide {} input and {} output channels",
                               result.groups, result.in_channels, result.out_channels));
  }
  if (weight[1] != result.group_in()) {
    throw mismatch(fmt::format("{} input channels in {} groups need weights for {} each",
                               result.in_channels, result.groups, result.group_in()));
  }
  result.windows = windows_of(node, operand, {weight.begin() + 2, weight.end()});
  return result;
}

ConvolutionShape transposed_convolution_shape(const FloatNode& node, const Shape& operand,
                                              const Shape& weight) {
  ConvolutionShape result;
  result.groups = integer_attribute(node, "group", 1);
  const bool fits = weight.size() == operand.size() && weight.size() >= 3 && result.groups >= 1 &&
                    weight[0] == operand[1] && operand[1] % result.groups == 0;
  if (!fits) {
    throw Error(
        ErrorCode::wrong_shape,
        fmt::format("a weight of shape {} on an operand of shape {} in {} groups: its first "
                    "axis must be the operand's channels, which the groups must divide",
                    to_string(weight), to_string(operand), result.groups));
  }
  result.in_channels = operand[1];
  result.out_channels = weight[1] * result.groups;
  result.windows = transposed_windows_of(node, operand, {weight.begin() + 2, weight.end()});
  return result;
}

std::vector<std::int64_t> Reduction::rows(const Shape& operand) const {
  Tensor<double> numbers{kept, {}};
  for (std::int64_t i = 0; i < number_of_elements(kept); ++i)
    numbers.data.push_back(static_cast<double>(i));
  const std::vector<double> spread = broadcast_to(numbers, operand);
  return {spread.begin(), spread.end()};
}

Reduction reduction_of(const FloatNode& node, const Operands& operands, const Shape& operand) {
  const auto rank = static_cast<std::int64_t>(operand.size());
  const std::set<std::int64_t> axes = reduced_axes(node, operands, rank);
  const bool keep =
      node.op_type == "GlobalAveragePool" || integer_attribute(node, "keepdims", 1) != 0;
  Reduction result;
  double count = 1;
  for (std::int64_t i = 0; i < rank; ++i) {
    const std::int64_t size = operand[static_cast<std::size_t>(i)];
    const bool is_reduced = axes.contains(i);
    result.kept.push_back(is_reduced ? 1 : size);
    if (is_reduced) count *= static_cast<double>(size);
    if (!is_reduced || keep) result.shape.push_back(result.kept.back());
  }
  const bool is_mean = node.op_type == "ReduceMean" || node.op_type == "GlobalAveragePool";
  if (is_mean) result.divisor = count;
  if (count == 0) {
    throw Error(ErrorCode::wrong_shape,
                fmt::format("a reduction over no elements (shape {})", to_string(operand)));
  }
  return result;
}

}  // namespace torusml
