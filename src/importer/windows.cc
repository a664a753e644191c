#include "importer/windows.h"

#include <fmt/format.h>

#include <algorithm>

#include "importer/limits.h"
#include "importer/operators.h"
#include "torusml/error.h"

namespace torusml {
namespace {

// Bounds sums and products of attributes well below overflow.
constexpr std::int64_t kMaxAttribute = std::int64_t{1} << 30;
// Of all windows together: 256 MiB, which a kernel and padding that cost a file nothing could
// exceed by far.
constexpr std::int64_t kMaxTaps = std::int64_t{1} << 25;

std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

// One entry per axis, or `otherwise` for each.
Shape per_axis(const FloatNode& node, const char* name, std::size_t count, std::int64_t otherwise,
               std::int64_t least) {
  Shape values = integers_attribute(node, name);
  if (values.empty()) values.assign(count, otherwise);
  if (values.size() != count) {
    throw Error(ErrorCode::invalid_model, fmt::format("attribute '{}' has {} entries, expected {}",
                                                      name, values.size(), count));
  }
  for (std::int64_t value : values) {
    if (value >= least && value <= kMaxAttribute) continue;
    throw Error(
        value < 0 && least == 0 ? ErrorCode::not_supported : ErrorCode::invalid_model,
        fmt::format("attribute '{}' has an entry {}; it must be at least {}", name, value, least));
  }
  return values;
}

void check_kernel(const FloatNode& node, const Shape& kernel) {
  for (std::int64_t size : kernel) {
    if (size >= 1 && size <= kMaxAttribute) continue;
    throw Error(ErrorCode::invalid_model,
                fmt::format("the kernel has shape {}", to_string(kernel)));
  }
  const Shape given = integers_attribute(node, "kernel_shape");
  if (given.empty() || given == kernel) return;
  throw Error(ErrorCode::invalid_model,
              fmt::format("attribute 'kernel_shape' is {}, but the kernel has shape {}",
                          to_string(given), to_string(kernel)));
}

struct Axis {
  std::int64_t input, extent, stride;  // extent: of the dilated kernel
};

// SAME_UPPER puts an odd place at the end, SAME_LOWER at the beginning.
void pad_same(Windows& windows, std::size_t i, const Axis& axis, bool upper) {
  const std::int64_t output = ceil_div(axis.input, axis.stride);
  const std::int64_t total =
      std::max<std::int64_t>(0, (output - 1) * axis.stride + axis.extent - axis.input);
  windows.pads_begin[i] = upper ? total / 2 : total - total / 2;
  windows.pads_end[i] = total - windows.pads_begin[i];
}

std::int64_t output_size(const Windows& windows, std::size_t i, const Axis& axis, bool ceil_mode) {
  const std::int64_t padded = axis.input + windows.pads_begin[i] + windows.pads_end[i];
  if (padded < axis.extent) {
    throw Error(ErrorCode::wrong_shape,
                fmt::format("a kernel that spans {} places on an input of {} with its padding "
                            "(spatial axis {})",
                            axis.extent, padded, i));
  }
  const std::int64_t room = padded - axis.extent;
  if (!ceil_mode) return room / axis.stride + 1;
  const std::int64_t size = ceil_div(room, axis.stride) + 1;
  // A window must begin within the input or the padding before it.
  const bool starts_beyond = (size - 1) * axis.stride >= axis.input + windows.pads_begin[i];
  return starts_beyond ? size - 1 : size;
}

// Of one axis: the input position under each kernel position, output by output.
std::vector<std::int64_t> axis_taps(const Windows& windows, std::size_t i) {
  std::vector<std::int64_t> taps;
  for (std::int64_t o = 0; o < windows.output[i]; ++o) {
    for (std::int64_t k = 0; k < windows.kernel[i]; ++k) {
      const std::int64_t at =
          o * windows.strides[i] + k * windows.dilations[i] - windows.pads_begin[i];
      const bool inside = at >= 0 && at < windows.input[i];
      const bool padded = at < windows.input[i] + windows.pads_end[i];
      taps.push_back(inside ? at : padded ? kPadding : kBeyondPadding);
    }
  }
  return taps;
}

void check_taps(const Windows& windows) {
  const double taps = element_count(windows.output) * element_count(windows.kernel);
  if (taps <= static_cast<double>(kMaxTaps)) return;
  throw Error(ErrorCode::not_supported,
              fmt::format("windows of shape {} at {:.0f} places read {:.0f} elements, at most {} "
                          "can be read of a channel",
                          to_string(windows.kernel), element_count(windows.output), taps, kMaxTaps),
              "", "smaller images or windows");
}

}  // namespace

Windows windows_of(const FloatNode& node, const Shape& operand, Shape kernel) {
  if (operand.size() < 3) {
    throw Error(
        ErrorCode::wrong_shape,
        fmt::format("the operand has shape {}; a batch axis, a channel axis and spatial axes "
                    "are needed",
                    to_string(operand)));
  }
  const std::size_t count = operand.size() - 2;
  Windows windows;
  windows.input.assign(operand.begin() + 2, operand.end());
  windows.kernel = kernel.empty() ? integers_attribute(node, "kernel_shape") : std::move(kernel);
  if (windows.kernel.size() != count) {
    throw Error(ErrorCode::wrong_shape,
                fmt::format("a kernel of shape {} on an operand of shape {}: it needs {} axes",
                            to_string(windows.kernel), to_string(operand), count));
  }
  check_kernel(node, windows.kernel);
  windows.strides = per_axis(node, "strides", count, 1, 1);
  windows.dilations = per_axis(node, "dilations", count, 1, 1);
  const Shape pads = per_axis(node, "pads", 2 * count, 0, 0);
  windows.pads_begin.assign(pads.begin(), pads.begin() + static_cast<std::ptrdiff_t>(count));
  windows.pads_end.assign(pads.begin() + static_cast<std::ptrdiff_t>(count), pads.end());
  const std::string auto_pad = string_attribute(node, "auto_pad", "NOTSET");
  const bool same = auto_pad == "SAME_UPPER" || auto_pad == "SAME_LOWER";
  if (!same && auto_pad != "NOTSET" && auto_pad != "VALID") {
    throw Error(ErrorCode::invalid_model, fmt::format("attribute 'auto_pad' is '{}'", auto_pad));
  }
  const bool ceil_mode = integer_attribute(node, "ceil_mode", 0) != 0 && !same;
  for (std::size_t i = 0; i < count; ++i) {
    const std::int64_t extent = (windows.kernel[i] - 1) * windows.dilations[i] + 1;
    const Axis axis{windows.input[i], extent, windows.strides[i]};
    if (auto_pad == "VALID") windows.pads_begin[i] = windows.pads_end[i] = 0;
    if (same) pad_same(windows, i, axis, auto_pad == "SAME_UPPER");
    windows.output.push_back(output_size(windows, i, axis, ceil_mode));
  }
  return windows;
}

Windows transposed_windows_of(const FloatNode& node, const Shape& operand, const Shape& kernel) {
  const std::size_t count = operand.size() - 2;
  Windows windows;
  windows.output.assign(operand.begin() + 2, operand.end());
  windows.kernel = kernel;
  check_kernel(node, kernel);
  windows.strides = per_axis(node, "strides", count, 1, 1);
  windows.dilations = per_axis(node, "dilations", count, 1, 1);
  const Shape pads = per_axis(node, "pads", 2 * count, 0, 0);
  const Shape more = per_axis(node, "output_padding", count, 0, 0);
  const std::string auto_pad = string_attribute(node, "auto_pad", "NOTSET");
  const bool same = auto_pad == "SAME_UPPER" || auto_pad == "SAME_LOWER";
  if (!same && auto_pad != "NOTSET" && auto_pad != "VALID") {
    throw Error(ErrorCode::invalid_model, fmt::format("attribute 'auto_pad' is '{}'", auto_pad));
  }
  Shape sizes = integers_attribute(node, "output_shape");
  if (sizes.size() == operand.size()) sizes.erase(sizes.begin(), sizes.begin() + 2);
  if (!sizes.empty() && sizes.size() != count) {
    throw Error(
        ErrorCode::invalid_model,
        fmt::format("attribute 'output_shape' has {} entries, expected {}", sizes.size(), count));
  }
  for (std::size_t i = 0; i < count; ++i) {
    const std::int64_t full = (windows.output[i] - 1) * windows.strides[i] + more[i] +
                              (kernel[i] - 1) * windows.dilations[i] + 1;
    std::int64_t begin = auto_pad == "VALID" ? 0 : pads[i];
    std::int64_t size = full - begin - (auto_pad == "VALID" ? 0 : pads[i + count]);
    if (same || !sizes.empty()) {
      size = sizes.empty() ? windows.output[i] * windows.strides[i] : sizes[i];
      const std::int64_t total = full - size;
      begin = auto_pad == "SAME_UPPER" ? total / 2 : total - total / 2;
    }
    if (size < 1 || size > kMaxAttribute) {
      throw Error(ErrorCode::wrong_shape,
                  fmt::format("the result has size {} along spatial axis {}", size, i));
    }
    windows.input.push_back(size);
    windows.pads_begin.push_back(begin);
    windows.pads_end.push_back(full - size - begin);
  }
  return windows;
}

std::vector<std::int64_t> window_taps(const Windows& windows) {
  check_taps(windows);
  // Axis by axis, first one first: `taps` are those of the axes so far.
  std::vector<std::int64_t> taps{0};
  std::int64_t positions = 1, places = 1;
  for (std::size_t i = 0; i < windows.input.size(); ++i) {
    const std::vector<std::int64_t> axis = axis_taps(windows, i);
    std::vector<std::int64_t> wider;
    wider.reserve(taps.size() * axis.size());
    for (std::int64_t p = 0; p < positions; ++p) {
      for (std::int64_t o = 0; o < windows.output[i]; ++o) {
        for (std::int64_t k = 0; k < places; ++k) {
          const std::int64_t outer = taps[static_cast<std::size_t>(p * places + k)];
          for (std::int64_t j = 0; j < windows.kernel[i]; ++j) {
            const std::int64_t inner = axis[static_cast<std::size_t>(o * windows.kernel[i] + j)];
            wider.push_back(outer < 0 || inner < 0 ? std::min(outer, inner)
                                                   : outer * windows.input[i] + inner);
          }
        }
      }
    }
    taps = std::move(wider);
    positions *= windows.output[i];
    places *= windows.kernel[i];
  }
  return taps;
}

std::vector<std::int64_t> window_counts(const FloatNode& node, const Windows& windows,
                                        const std::vector<std::int64_t>& taps) {
  const std::int64_t least = integer_attribute(node, "count_include_pad", 0) != 0 ? kPadding : 0;
  const auto size = static_cast<std::ptrdiff_t>(windows.kernel_size());
  std::vector<std::int64_t> counts;
  for (auto first = taps.begin(); first != taps.end(); first += size) {
    counts.push_back(
        std::count_if(first, first + size, [&](std::int64_t t) { return t >= least; }));
    if (counts.back() > 0) continue;
    throw Error(ErrorCode::invalid_model,
                fmt::format("pooling window {} lies wholly in the padding", counts.size() - 1));
  }
  return counts;
}

}  // namespace torusml
