// Where the windows of convolutions and poolings lie, in any number of spatial axes.
//
//   Windows windows = windows_of(node, x.values.shape, {3, 3});
//   std::vector<std::int64_t> taps = window_taps(windows);
//   // Output position p reads input position taps[p * kernel size + k] under kernel position k.
//
// Positions are flat, over the spatial axes (all but batch and channel).
// Thread rule: concurrent. Cost: O(output positions times kernel positions).
#pragma once

#include <cstdint>
#include <vector>

#include "importer/float_graph.h"

namespace torusml {

// One entry per spatial axis.
struct Windows {
  Shape input, kernel, output, strides, dilations, pads_begin, pads_end;

  std::int64_t positions() const { return number_of_elements(output); }
  std::int64_t kernel_size() const { return number_of_elements(kernel); }
};

// From attributes kernel_shape, strides, dilations, pads, auto_pad and ceil_mode. `kernel` is a
// convolution's own; empty: kernel_shape is needed. Errors: wrong_shape (an operand without spatial
// axes, a kernel larger than the padded input), invalid_model (attributes), not_supported (negative
// pads).
Windows windows_of(const FloatNode& node, const Shape& operand, Shape kernel);

// Of a transposed convolution: the windows of the convolution that it is the transpose of. Their
// output is the operand, their input the result. Attributes, besides those of windows_of:
// output_padding, output_shape. Errors: as windows_of.
Windows transposed_windows_of(const FloatNode& node, const Shape& operand, const Shape& kernel);

// Taps that read no input: padding, and what ceil_mode adds beyond it.
inline constexpr std::int64_t kPadding = -1, kBeyondPadding = -2;

std::vector<std::int64_t> window_taps(const Windows& windows);

// What an average over each window divides by: its places within the input, with
// count_include_pad those within the padding too. Error invalid_model for a window without any.
std::vector<std::int64_t> window_counts(const FloatNode& node, const Windows& windows,
                                        const std::vector<std::int64_t>& taps);

}  // namespace torusml
