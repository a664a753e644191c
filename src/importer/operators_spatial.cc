#include <fmt/format.h>

#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <set>

#include "importer/broadcast.h"
#include "importer/limits.h"
#include "importer/linear_shapes.h"
#include "importer/operator_functions.h"
#include "importer/resizing.h"
#include "importer/windows.h"
#include "torusml/error.h"

namespace torusml {
namespace {

using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using MatrixView = Eigen::Map<const Matrix>;

void check_floats(const FloatTensor& tensor) {
  if (tensor.type == ElementType::floating) return;
  throw Error(ErrorCode::wrong_dtype, "operand is not of a floating type");
}

// Batch and channels of `x`, and the places of the windows.
Shape output_shape(const Shape& x, std::int64_t channels, const Windows& windows) {
  Shape shape{x[0], channels};
  shape.insert(shape.end(), windows.output.begin(), windows.output.end());
  return shape;
}

// One value for each channel (axis 1).
void add_channel_bias(const Tensor<double>& bias, Tensor<double>& y) {
  const std::int64_t channels = y.shape[1];
  if (bias.shape != Shape{channels}) {
    throw Error(ErrorCode::wrong_shape, fmt::format("a bias of shape {} for {} output channels",
                                                    to_string(bias.shape), channels));
  }
  const std::int64_t places = number_of_elements(Shape(y.shape.begin() + 2, y.shape.end()));
  for (std::size_t i = 0; i < y.data.size(); ++i)
    y.data[i] +=
        bias.data[static_cast<std::size_t>(static_cast<std::int64_t>(i) / places % channels)];
}

// The source of every element along one axis; -1: the constant.
std::vector<std::int64_t> padded_axis(const std::string& mode, std::int64_t size,
                                      std::int64_t before, std::int64_t after) {
  const auto too_small = [&](const char* what) {
    return Error(
        ErrorCode::wrong_shape,
        fmt::format("{} padding of {} and {} on an axis of size {}", what, before, after, size));
  };
  if (mode == "reflect" && std::max(before, after) >= size) throw too_small("reflect");
  if (mode != "constant" && size == 0) throw too_small(mode.c_str());
  std::vector<std::int64_t> sources;
  for (std::int64_t i = -before; i < size + after; ++i) {
    if (i >= 0 && i < size) {
      sources.push_back(i);
    } else if (mode == "edge") {
      sources.push_back(i < 0 ? 0 : size - 1);
    } else if (mode == "reflect") {
      sources.push_back(i < 0 ? -i : 2 * (size - 1) - i);
    } else if (mode == "wrap") {
      sources.push_back((i % size + size) % size);
    } else {
      sources.push_back(-1);
    }
  }
  return sources;
}

// Begin of every axis, then ends.
std::vector<std::int64_t> pads_of(const Operands& operands, std::int64_t rank) {
  const std::vector<std::int64_t> given = to_integers(*operands[1]);
  std::vector<std::int64_t> axes;
  if (operands.size() > 3 && operands[3]) {
    axes = to_integers(*operands[3]);
  } else {
    for (std::int64_t i = 0; i < rank; ++i) axes.push_back(i);
  }
  if (given.size() != 2 * axes.size()) {
    throw Error(ErrorCode::invalid_model,
                fmt::format("{} pads for {} axes", given.size(), axes.size()));
  }
  std::vector<std::int64_t> pads(static_cast<std::size_t>(2 * rank), 0);
  for (std::size_t i = 0; i < axes.size(); ++i) {
    const auto axis = static_cast<std::size_t>(normalized_axis(axes[i], rank));
    pads[axis] = given[i];
    pads[axis + static_cast<std::size_t>(rank)] = given[i + axes.size()];
  }
  for (std::int64_t pad : pads) {
    if (pad >= 0) continue;
    throw Error(ErrorCode::not_supported, fmt::format("a pad of {}", pad), "",
                "pads of at least 0; a Slice takes elements away");
  }
  return pads;
}

Shape padded_shape(Shape shape, const std::vector<std::int64_t>& pads) {
  for (std::size_t axis = 0; axis < shape.size(); ++axis) {
    const std::int64_t before = pads[axis], after = pads[axis + shape.size()];
    if (__builtin_add_overflow(shape[axis], before, &shape[axis]) ||
        __builtin_add_overflow(shape[axis], after, &shape[axis])) {
      throw Error(ErrorCode::not_supported, fmt::format("pads of {} and {}", before, after));
    }
  }
  return shape;
}

// Puts `constant`, or the source that the mode names, around the elements of one axis.
Tensor<double> pad_axis(const Tensor<double>& x, std::size_t axis,
                        const std::vector<std::int64_t>& sources, double constant) {
  Tensor<double> y{x.shape, {}};
  y.shape[axis] = static_cast<std::int64_t>(sources.size());
  y.data.reserve(static_cast<std::size_t>(checked_elements(y.shape)));
  std::int64_t inner = 1, outer = 1;
  for (std::size_t i = 0; i < x.shape.size(); ++i) {
    if (i < axis) outer *= x.shape[i];
    if (i > axis) inner *= x.shape[i];
  }
  for (std::int64_t o = 0; o < outer; ++o) {
    for (std::int64_t source : sources) {
      const auto from = x.data.begin() + (o * x.shape[axis] + source) * inner;
      if (source < 0) y.data.insert(y.data.end(), static_cast<std::size_t>(inner), constant);
      if (source >= 0) y.data.insert(y.data.end(), from, from + inner);
    }
  }
  return y;
}

// Element i of the result's axis lies at places[i] of the operand's.
Tensor<double> resize_axis(const Tensor<double>& x, std::size_t axis,
                           const std::vector<ResizePlace>& places) {
  Tensor<double> y{x.shape, {}};
  y.shape[axis] = static_cast<std::int64_t>(places.size());
  y.data.assign(static_cast<std::size_t>(checked_elements(y.shape)), 0.0);
  const auto at = x.shape.begin() + static_cast<std::ptrdiff_t>(axis);
  const std::int64_t outer = number_of_elements(Shape(x.shape.begin(), at)),
                     inner = number_of_elements(Shape(at + 1, x.shape.end()));
  double* to = y.data.data();
  for (std::int64_t o = 0; o < outer; ++o) {
    for (const ResizePlace& place : places) {
      const double* from = x.data.data() + (o * *at + place.source) * inner;
      for (std::int64_t i = 0; i < inner; ++i) to[i] += (1 - place.share) * from[i];
      for (std::int64_t i = 0; place.share != 0 && i < inner; ++i)
        to[i] += place.share * from[inner + i];
      to += inner;
    }
  }
  return y;
}

// How many windows are worked on at a time: the numbers that they read take 128 MiB at most, and
// not what an image times a kernel may come to.
std::int64_t windows_at_once(std::int64_t numbers_each, std::int64_t windows) {
  constexpr std::int64_t kMostNumbers = std::int64_t{1} << 24;
  return std::clamp(kMostNumbers / numbers_each, std::int64_t{1}, windows);
}

// What `count` windows from `first` on read: a column for each, a row for each channel and element
// of the kernel.
void fill_patches(const double* image, const Windows& windows,
                  const std::vector<std::int64_t>& taps, std::int64_t first, std::int64_t count,
                  Matrix& patches) {
  const std::int64_t kernel = windows.kernel_size(), pixels = number_of_elements(windows.input);
  for (std::int64_t r = 0; r < patches.rows(); ++r) {
    const double* channel = image + r / kernel * pixels;
    for (std::int64_t p = 0; p < count; ++p) {
      const std::int64_t tap = taps[static_cast<std::size_t>((first + p) * kernel + r % kernel)];
      patches(r, p) = tap < 0 ? 0 : channel[tap];
    }
  }
}

}  // namespace

FloatTensor convolution(const FloatNode& node, const Operands& operands) {
  const Tensor<double>&x = operands[0]->values, &w = operands[1]->values;
  for (std::size_t i = 0; i < 2; ++i) check_floats(*operands[i]);
  const ConvolutionShape shape = convolution_shape(node, x.shape, w.shape);
  FloatTensor result{operands[0]->type,
                     {output_shape(x.shape, shape.out_channels, shape.windows), {}}};
  result.values.data.resize(static_cast<std::size_t>(checked_result(result.values.shape)));
  if (result.values.data.empty()) return result;

  const std::int64_t positions = shape.windows.positions(), rows = shape.group_out(),
                     pixels = number_of_elements(shape.windows.input),
                     columns = shape.group_in() * shape.windows.kernel_size();
  check_products({shape.groups, rows, columns, positions});
  const std::vector<std::int64_t> taps = window_taps(shape.windows);
  const std::int64_t at_once = windows_at_once(columns, positions);
  Matrix patches(columns, at_once);
  for (std::int64_t part = 0; part < x.shape[0] * shape.groups; ++part) {
    const double* image = x.data.data() + part * shape.group_in() * pixels;
    const std::int64_t group = part % shape.groups;
    const MatrixView weights(w.data.data() + group * rows * columns, rows, columns);
    Eigen::Map<Matrix> y(result.values.data.data() + part * rows * positions, rows, positions);
    for (std::int64_t first = 0; first < positions; first += at_once) {
      const std::int64_t count = std::min(at_once, positions - first);
      fill_patches(image, shape.windows, taps, first, count, patches);
      y.middleCols(first, count).noalias() = weights * patches.leftCols(count);
    }
  }
  if (operands.size() > 2 && operands[2]) add_channel_bias(operands[2]->values, result.values);
  return result;
}

FloatTensor transposed_convolution(const FloatNode& node, const Operands& operands) {
  const Tensor<double>&x = operands[0]->values, &w = operands[1]->values;
  for (std::size_t i = 0; i < 2; ++i) check_floats(*operands[i]);
  const ConvolutionShape shape = transposed_convolution_shape(node, x.shape, w.shape);
  const Windows& windows = shape.windows;  // of the convolution that it is the transpose of
  FloatTensor result{operands[0]->type, {{x.shape[0], shape.out_channels}, {}}};
  Shape& to = result.values.shape;
  to.insert(to.end(), windows.input.begin(), windows.input.end());
  result.values.data.assign(static_cast<std::size_t>(checked_result(to)), 0.0);
  if (result.values.data.empty()) return result;
  const std::int64_t pixels = windows.positions(), kernel = windows.kernel_size(),
                     places = number_of_elements(windows.input), rows = shape.group_out() * kernel;
  check_products({shape.groups, rows, shape.group_in(), pixels});
  const std::vector<std::int64_t> taps = window_taps(windows);
  const std::int64_t at_once = windows_at_once(rows, pixels);
  for (std::int64_t part = 0; part < x.shape[0] * shape.groups; ++part) {
    const std::int64_t group = part % shape.groups, in = shape.group_in();
    const MatrixView weights(w.data.data() + group * in * rows, in, rows);
    const MatrixView image(x.data.data() + part * in * pixels, in, pixels);
    double* y = result.values.data.data() + part * shape.group_out() * places;
    for (std::int64_t first = 0; first < pixels; first += at_once) {
      const std::int64_t count = std::min(at_once, pixels - first);
      const Matrix patches = weights.transpose() * image.middleCols(first, count);
      for (std::int64_t r = 0; r < rows; ++r) {
        for (std::int64_t p = 0; p < count; ++p) {
          const std::int64_t tap =
              taps[static_cast<std::size_t>((first + p) * kernel + r % kernel)];
          if (tap >= 0) y[r / kernel * places + tap] += patches(r, p);
        }
      }
    }
  }
  if (operands.size() > 2 && operands[2]) add_channel_bias(operands[2]->values, result.values);
  return result;
}

FloatTensor average_pool(const FloatNode& node, const Operands& operands) {
  check_floats(*operands[0]);
  const Tensor<double>& x = operands[0]->values;
  const Windows windows = windows_of(node, x.shape, {});
  FloatTensor result{operands[0]->type, {output_shape(x.shape, x.shape[1], windows), {}}};
  result.values.data.reserve(static_cast<std::size_t>(checked_result(result.values.shape)));
  const std::int64_t kernel = windows.kernel_size(), pixels = number_of_elements(windows.input);
  check_products({x.shape[1], kernel, windows.positions()});
  const std::vector<std::int64_t> taps = window_taps(windows);
  const std::vector<std::int64_t> counts = window_counts(node, windows, taps);
  for (std::int64_t image = 0; image < x.shape[0] * x.shape[1]; ++image) {
    const double* at = x.data.data() + image * pixels;
    for (std::size_t p = 0; p < counts.size(); ++p) {
      double sum = 0;
      for (std::int64_t k = 0; k < kernel; ++k) {
        const std::int64_t tap =
            taps[p * static_cast<std::size_t>(kernel) + static_cast<std::size_t>(k)];
        if (tap >= 0) sum += at[tap];
      }
      result.values.data.push_back(sum / static_cast<double>(counts[p]));
    }
  }
  return result;
}

FloatTensor max_pool(const FloatNode& node, const Operands& operands) {
  const Tensor<double>& x = operands[0]->values;
  const bool global = node.op_type == "GlobalMaxPool" && x.shape.size() > 2;
  const Windows windows =
      windows_of(node, x.shape, global ? Shape(x.shape.begin() + 2, x.shape.end()) : Shape{});
  FloatTensor result{operands[0]->type, {output_shape(x.shape, x.shape[1], windows), {}}};
  result.values.data.reserve(static_cast<std::size_t>(checked_result(result.values.shape)));
  const std::int64_t kernel = windows.kernel_size(), pixels = number_of_elements(windows.input);
  check_products({x.shape[1], kernel, windows.positions()});
  const std::vector<std::int64_t> taps = window_taps(windows);
  window_counts(node, windows, taps);  // refuses windows that lie in the padding
  for (std::int64_t image = 0; image < x.shape[0] * x.shape[1]; ++image) {
    const double* at = x.data.data() + image * pixels;
    for (auto tap = taps.begin(); tap != taps.end(); tap += kernel) {
      double largest = -INFINITY;
      for (std::int64_t k = 0; k < kernel; ++k) {
        if (tap[k] >= 0) largest = std::max(largest, at[tap[k]]);
      }
      result.values.data.push_back(largest);
    }
  }
  return result;
}

FloatTensor resize(const FloatNode& node, const Operands& operands) {
  FloatTensor result = *operands[0];
  if (is_linear_resize(node)) check_floats(result);
  const ResizePlaces places = resize_places(node, operands, result.values.shape);
  // Axes that shrink go first: nothing on the way is larger than the operand or the result.
  for (const bool shrinks : {true, false}) {
    for (std::size_t axis = 0; axis < places.size(); ++axis) {
      const bool is_less =
          static_cast<std::int64_t>(places[axis].size()) < operands[0]->values.shape[axis];
      if (!places[axis].empty() && is_less == shrinks)
        result.values = resize_axis(result.values, axis, places[axis]);
    }
  }
  return result;
}

FloatTensor pad(const FloatNode& node, const Operands& operands) {
  FloatTensor result = *operands[0];
  const auto rank = static_cast<std::int64_t>(result.values.shape.size());
  const std::string mode = string_attribute(node, "mode", "constant");
  if (!std::set<std::string>{"constant", "edge", "reflect", "wrap"}.contains(mode)) {
    throw Error(ErrorCode::invalid_model, fmt::format("attribute 'mode' is '{}'", mode));
  }
  double constant = 0;
  if (operands.size() > 2 && operands[2]) {
    if (operands[2]->values.data.size() != 1) {
      throw Error(ErrorCode::wrong_shape, fmt::format("{} values to pad with, expected one",
                                                      operands[2]->values.data.size()));
    }
    constant = operands[2]->values.data.front();
  }
  const std::vector<std::int64_t> pads = pads_of(operands, rank);
  const Shape padded = padded_shape(result.values.shape, pads);
  if (checked_result(padded) == 0) return {result.type, {padded, {}}};
  for (std::size_t axis = 0; axis < result.values.shape.size(); ++axis) {
    const std::int64_t before = pads[axis], after = pads[axis + static_cast<std::size_t>(rank)];
    if (before == 0 && after == 0) continue;
    const auto sources = padded_axis(mode, result.values.shape[axis], before, after);
    result.values = pad_axis(result.values, axis, sources, constant);
  }
  return result;
}

}  // namespace torusml
