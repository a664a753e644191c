#include "quantization/window_maps.h"

#include <fmt/format.h>

#include "importer/linear_shapes.h"
#include "importer/windows.h"
#include "torusml/error.h"

namespace torusml {
namespace {

constexpr double kMaxEntries = 1 << 26;

void check_entries(const FloatNode& node, double entries) {
  if (entries <= kMaxEntries) return;
  throw Error(ErrorCode::not_supported,
              fmt::format("a linear map of {:.0f} entries (at most 2^26)", entries), describe(node),
              "smaller images or fewer channels");
}

double as_double(std::int64_t n) { return static_cast<double>(n); }

}  // namespace

FloatMap convolution_map(const FloatNode& node, const Shape& operand,
                         const Tensor<double>& weight) {
  const ConvolutionShape shape = convolution_shape(node, operand, weight.shape);
  const std::vector<std::int64_t> taps = window_taps(shape.windows);
  const std::int64_t positions = shape.windows.positions(), kernel = shape.windows.kernel_size(),
                     pixels = number_of_elements(shape.windows.input);
  check_entries(node, as_double(shape.out_channels) * as_double(positions) *
                          as_double(shape.group_in()) * as_double(kernel));
  FloatMap map = FloatMap::sparse(shape.in_channels * pixels);
  map.weights = weight.data;
  map.weight_count = static_cast<std::int64_t>(weight.data.size());
  for (std::int64_t out = 0; out < shape.out_channels; ++out) {
    const std::int64_t first_channel = out / shape.group_out() * shape.group_in();
    for (std::int64_t p = 0; p < positions; ++p) {
      for (std::int64_t in = 0; in < shape.group_in(); ++in) {
        const double* w = weight.data.data() + (out * shape.group_in() + in) * kernel;
        for (std::int64_t k = 0; k < kernel; ++k) {
          const std::int64_t tap = taps[static_cast<std::size_t>(p * kernel + k)];
          if (tap < 0) continue;
          map.add_entry((first_channel + in) * pixels + tap, w[k]);
          map.weight_of.push_back((out * shape.group_in() + in) * kernel + k);
        }
      }
      map.add_row();
    }
  }
  return map;
}

FloatMap transposed_convolution_map(const FloatNode& node, const Shape& operand,
                                    const Tensor<double>& weight) {
  const ConvolutionShape shape = transposed_convolution_shape(node, operand, weight.shape);
  const std::vector<std::int64_t> taps = window_taps(shape.windows);
  const std::int64_t pixels = shape.windows.positions(), kernel = shape.windows.kernel_size();
  check_entries(node, as_double(shape.out_channels) * as_double(pixels) *
                          as_double(shape.group_in()) * as_double(kernel));
  // By place of the result: the pixels that are added to it, and by which element of the kernel.
  struct Source {
    std::int64_t pixel, k;
  };
  std::vector<std::vector<Source>> sources(
      static_cast<std::size_t>(number_of_elements(shape.windows.input)));
  for (std::size_t t = 0; t < taps.size(); ++t) {
    const auto at = static_cast<std::int64_t>(t);
    if (taps[t] >= 0)
      sources[static_cast<std::size_t>(taps[t])].push_back({at / kernel, at % kernel});
  }
  FloatMap map = FloatMap::sparse(shape.in_channels * pixels);
  map.weights = weight.data;
  for (std::int64_t out = 0; out < shape.out_channels; ++out) {
    const std::int64_t first = out / shape.group_out() * shape.group_in();
    for (const std::vector<Source>& place : sources) {
      for (std::int64_t in = first; in < first + shape.group_in(); ++in) {
        const std::int64_t row = in * shape.group_out() + out % shape.group_out();
        for (const Source& source : place) {
          map.add_entry(in * pixels + source.pixel,
                        weight.data[static_cast<std::size_t>(row * kernel + source.k)]);
        }
      }
      map.add_row();
    }
  }
  return map;
}

FloatMap average_pool_map(const FloatNode& node, const Shape& operand) {
  const Windows windows = windows_of(node, operand, {});
  const std::vector<std::int64_t> taps = window_taps(windows);
  const std::vector<std::int64_t> counts = window_counts(node, windows, taps);
  const std::int64_t kernel = windows.kernel_size(), pixels = number_of_elements(windows.input);
  check_entries(node, as_double(operand[1]) * as_double(static_cast<std::int64_t>(taps.size())));
  FloatMap map = FloatMap::sparse(operand[1] * pixels);
  for (std::int64_t channel = 0; channel < operand[1]; ++channel) {
    for (std::size_t p = 0; p < counts.size(); ++p) {
      for (std::int64_t k = 0; k < kernel; ++k) {
        const std::int64_t tap =
            taps[p * static_cast<std::size_t>(kernel) + static_cast<std::size_t>(k)];
        if (tap >= 0) map.add_entry(channel * pixels + tap, 1 / as_double(counts[p]));
      }
      map.add_row();
    }
  }
  return map;
}

FloatMap reduction_map(const FloatNode& node, const Operands& operands, const Shape& operand) {
  const Reduction reduction = reduction_of(node, operands, operand);
  const std::vector<std::int64_t> row_of = reduction.rows(operand);
  std::vector<std::vector<std::int64_t>> rows(
      static_cast<std::size_t>(number_of_elements(reduction.shape)));
  for (std::size_t i = 0; i < row_of.size(); ++i)
    rows[static_cast<std::size_t>(row_of[i])].push_back(static_cast<std::int64_t>(i));
  FloatMap map = FloatMap::sparse(static_cast<std::int64_t>(row_of.size()));
  for (const std::vector<std::int64_t>& row : rows) {
    for (std::int64_t column : row) map.add_entry(column, 1 / reduction.divisor);
    map.add_row();
  }
  return map;
}

}  // namespace torusml
