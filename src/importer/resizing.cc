#include "importer/resizing.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "importer/limits.h"
#include "torusml/error.h"

namespace torusml {
namespace {

Error invalid(std::string message) { return Error(ErrorCode::invalid_model, std::move(message)); }

// The place in the operand that a place of the result stands for.
double resized_place(const std::string& mode, double place, double scale, double from, double to) {
  if (mode == "asymmetric") return place / scale;
  if (mode == "align_corners") return to == 1 ? 0 : place * (from - 1) / (to - 1);
  if (mode == "half_pixel") return (place + 0.5) / scale - 0.5;
  if (mode == "pytorch_half_pixel") return to == 1 ? 0 : (place + 0.5) / scale - 0.5;
  if (mode == "half_pixel_symmetric") {
    const double adjustment = to / (scale * from);
    return from / 2 * (1 - adjustment) + (place + 0.5) / scale - 0.5;
  }
  throw Error(ErrorCode::not_supported, fmt::format("coordinate_transformation_mode '{}'", mode),
              "",
              "asymmetric, half_pixel, half_pixel_symmetric, pytorch_half_pixel or align_corners");
}

double nearest(const std::string& mode, double place) {
  if (mode == "round_prefer_floor") return std::ceil(place - 0.5);
  if (mode == "round_prefer_ceil") return std::floor(place + 0.5);
  if (mode == "floor") return std::floor(place);
  if (mode == "ceil") return std::ceil(place);
  throw invalid(fmt::format("attribute 'nearest_mode' is '{}'", mode));
}

struct ResizedAxis {
  std::int64_t size;
  double scale;
};

std::vector<ResizedAxis> resized_axes(const FloatNode& node, const Operands& operands,
                                      const Shape& from) {
  const auto given = [&](std::size_t i) {
    return i < operands.size() && operands[i] && !operands[i]->values.data.empty();
  };
  if (given(2) == given(3)) throw invalid("a Resize needs either scales or sizes");
  if (string_attribute(node, "keep_aspect_ratio_policy", "stretch") != "stretch")
    throw Error(ErrorCode::not_supported, "keep_aspect_ratio_policy", "", "stretch");
  std::vector<std::int64_t> axes = integers_attribute(node, "axes");
  const auto rank = static_cast<std::int64_t>(from.size());
  const bool all = axes.empty();
  for (std::int64_t i = 0; all && i < rank; ++i) axes.push_back(i);
  if (static_cast<std::int64_t>(axes.size()) > rank) throw invalid("an axis is resized twice");
  const std::vector<double>& numbers = operands[given(2) ? 2 : 3]->values.data;
  if (numbers.size() != axes.size())
    throw invalid(fmt::format("{} scales or sizes for {} axes", numbers.size(), axes.size()));
  std::vector<ResizedAxis> result;
  for (std::int64_t size : from) result.push_back({size, 1});
  for (std::size_t i = 0; i < axes.size(); ++i) {
    const auto axis = static_cast<std::size_t>(normalized_axis(axes[i], rank));
    const auto size = static_cast<double>(from[axis]);
    const double wanted = given(2) ? std::floor(size * numbers[i]) : numbers[i];
    if (size == 0 || !(wanted >= 1 && wanted < 0x1p62))
      throw invalid(fmt::format("axis {} of size {} is resized to {}", axis, size, wanted));
    result[axis] = {static_cast<std::int64_t>(wanted), given(2) ? numbers[i] : wanted / size};
  }
  return result;
}

// At the border the outermost place counts alone.
ResizePlace linear_place(double place, double size) {
  const double inside = std::clamp(place, 0.0, size - 1), first = std::floor(inside);
  return {static_cast<std::int64_t>(first), inside - first};
}

void check_mode(const FloatNode& node) {
  const std::string mode = string_attribute(node, "mode", "nearest");
  if (mode != "nearest" && mode != "linear") {
    throw Error(ErrorCode::not_supported, fmt::format("resizing with mode '{}'", mode), "",
                "mode 'nearest' or 'linear', or a transposed convolution");
  }
  for (const char* name : {"antialias", "exclude_outside"}) {
    if (mode == "nearest" || integer_attribute(node, name, 0) == 0) continue;
    throw Error(ErrorCode::not_supported, fmt::format("resizing with {}=1", name), "",
                fmt::format("{}=0", name));
  }
}

}  // namespace

bool is_linear_resize(const FloatNode& node) {
  return !node.custom && node.domain.empty() && node.op_type == "Resize" &&
         string_attribute(node, "mode", "nearest") == "linear";
}

ResizePlaces resize_places(const FloatNode& node, const Operands& operands, const Shape& from) {
  check_mode(node);
  const std::vector<ResizedAxis> axes = resized_axes(node, operands, from);
  Shape resized;
  for (const ResizedAxis& axis : axes) resized.push_back(axis.size);
  checked_result(resized);
  const std::string places = string_attribute(node, "coordinate_transformation_mode", "half_pixel");
  const std::string rounding = string_attribute(node, "nearest_mode", "round_prefer_floor");
  const bool is_linear = is_linear_resize(node);
  ResizePlaces result(from.size());
  for (std::size_t axis = 0; axis < axes.size(); ++axis) {
    if (axes[axis].size == from[axis] && axes[axis].scale == 1) continue;
    const auto size = static_cast<double>(from[axis]), to = static_cast<double>(axes[axis].size);
    result[axis].reserve(static_cast<std::size_t>(axes[axis].size));
    for (std::int64_t i = 0; i < axes[axis].size; ++i) {
      const double place =
          resized_place(places, static_cast<double>(i), axes[axis].scale, size, to);
      if (is_linear) {
        result[axis].push_back(linear_place(place, size));
        continue;
      }
      const double source = std::clamp(nearest(rounding, place), 0.0, size - 1);
      result[axis].push_back({static_cast<std::int64_t>(source)});
    }
  }
  return result;
}

}  // namespace torusml
