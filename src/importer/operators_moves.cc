#include <fmt/format.h>

#include <algorithm>

#include "importer/limits.h"
#include "importer/operator_functions.h"
#include "torusml/error.h"

namespace torusml {
namespace {

Error invalid(std::string message) { return Error(ErrorCode::invalid_model, std::move(message)); }

// Element i of the result's axis is element sources[i] of the operand's.
Tensor<double> gathered(const Tensor<double>& from, std::size_t axis,
                        const std::vector<std::int64_t>& sources) {
  Tensor<double> to{from.shape, {}};
  to.shape[axis] = static_cast<std::int64_t>(sources.size());
  to.data.reserve(static_cast<std::size_t>(checked_elements(to.shape)));
  const auto at = from.shape.begin() + static_cast<std::ptrdiff_t>(axis);
  const std::int64_t outer = number_of_elements(Shape(from.shape.begin(), at));
  const std::int64_t inner = number_of_elements(Shape(at + 1, from.shape.end()));
  for (std::int64_t o = 0; o < outer; ++o) {
    for (std::int64_t source : sources) {
      const auto begin = from.data.begin() + (o * from.shape[axis] + source) * inner;
      to.data.insert(to.data.end(), begin, begin + inner);
    }
  }
  return to;
}

// Sizes of a Split's results: given, or as equal as possible.
std::vector<std::int64_t> split_sizes(const FloatNode& node, const Operands& operands,
                                      std::int64_t size) {
  const std::int64_t count = integer_attribute(node, "outputs", 1);
  std::vector<std::int64_t> sizes = integers_attribute(node, "split");
  if (operands.size() > 1 && operands[1]) sizes = to_integers(*operands[1]);
  if (sizes.empty()) {
    const std::int64_t each = (size + count - 1) / count;
    for (std::int64_t i = 0; i < count; ++i)
      sizes.push_back(std::clamp<std::int64_t>(size - i * each, 0, each));
  }
  std::int64_t sum = 0;
  for (std::int64_t part : sizes) sum += std::clamp<std::int64_t>(part, 0, kMaxElements);
  const bool negative = std::ranges::any_of(sizes, [](std::int64_t part) { return part < 0; });
  if (static_cast<std::int64_t>(sizes.size()) != count || sum != size || negative) {
    throw invalid(fmt::format("an axis of size {} is split into {} parts whose sizes add up to {}",
                              size, sizes.size(), sum));
  }
  return sizes;
}

}  // namespace

FloatTensor split(const FloatNode& node, const Operands& operands) {
  const Tensor<double>& from = operands[0]->values;
  const auto axis = static_cast<std::size_t>(normalized_axis(
      integer_attribute(node, "axis", 0), static_cast<std::int64_t>(from.shape.size())));
  const std::vector<std::int64_t> sizes = split_sizes(node, operands, from.shape[axis]);
  const auto output = static_cast<std::size_t>(integer_attribute(node, "output", 0));
  std::int64_t first = 0;
  for (std::size_t i = 0; i < output; ++i) first += sizes[i];
  std::vector<std::int64_t> sources;
  for (std::int64_t i = 0; i < sizes.at(output); ++i) sources.push_back(first + i);
  return {operands[0]->type, gathered(from, axis, sources)};
}

FloatTensor tile(const FloatNode&, const Operands& operands) {
  FloatTensor result = *operands[0];
  const std::vector<std::int64_t> repeats = to_integers(*operands[1]);
  if (repeats.size() != result.values.shape.size()) {
    throw invalid(fmt::format("{} repeats for a tensor of shape {}", repeats.size(),
                              to_string(result.values.shape)));
  }
  Shape tiled = result.values.shape;
  for (std::size_t axis = 0; axis < repeats.size(); ++axis) {
    if (repeats[axis] < 0 || __builtin_mul_overflow(tiled[axis], repeats[axis], &tiled[axis]))
      throw invalid(fmt::format("axis {} is repeated {} times", axis, repeats[axis]));
  }
  if (checked_result(tiled) == 0) return {result.type, {tiled, {}}};
  for (std::size_t axis = 0; axis < repeats.size(); ++axis) {
    const std::int64_t size = result.values.shape[axis];
    std::vector<std::int64_t> sources;
    for (std::int64_t i = 0; i < tiled[axis]; ++i) sources.push_back(i % size);
    result.values = gathered(result.values, axis, sources);
  }
  return result;
}

FloatTensor trilu(const FloatNode& node, const Operands& operands) {
  FloatTensor result = *operands[0];
  const Shape& shape = result.values.shape;
  if (shape.size() < 2) throw Error(ErrorCode::wrong_shape, "Trilu of fewer than two axes");
  std::int64_t shift = 0;
  if (operands.size() > 1 && operands[1]) shift = to_integers(*operands[1]).at(0);
  const bool upper = integer_attribute(node, "upper", 1) != 0;
  const std::int64_t columns = shape.back(), rows = shape[shape.size() - 2];
  for (std::size_t i = 0; i < result.values.data.size(); ++i) {
    const auto at = static_cast<std::int64_t>(i);
    const double distance = static_cast<double>(at % columns) -
                            static_cast<double>(at / columns % rows) - static_cast<double>(shift);
    if (upper ? distance < 0 : distance > 0) result.values.data[i] = 0;
  }
  return result;
}

}  // namespace torusml
