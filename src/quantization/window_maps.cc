#include "quantization/window_maps.h"

#include <fmt/format.h>

#include <numeric>
#include <utility>

#include "importer/linear_shapes.h"
#include "importer/resizing.h"
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

// The rows of one channel of a map: each reads the pixels of a place. Places that read pixels in
// the same way, but for a shift, are made once.
class Places {
 public:
  explicit Places(std::int64_t pixels) : rows_(pixels) {}

  // A pixel of the place that is being made, and which part of the kernel reads it.
  void add(std::int64_t pixel, std::int64_t k) { rows_.add(pixel, k); }
  void end_place() { rows_.end_row(); }
  void finish() {
    places_ = rows_.finish();
    first_.assign(places_.patterns(), -1);
    for (std::int64_t place = 0; place < places_.rows; ++place) {
      std::int64_t& first = first_[places_.pattern[static_cast<std::size_t>(place)]];
      if (first < 0) first = place;
    }
  }
  // Pixels of the places that are made.
  double entries() const { return static_cast<double>(places_.value.size()); }

  // fill(place): adds the entries of a row.
  template <class Fill>
  void add_rows(FloatRows& rows, const Fill& fill) const {
    const std::int64_t before = rows.rows();
    for (std::int64_t place = 0; place < places_.rows; ++place) {
      const auto p = static_cast<std::size_t>(place);
      const std::int64_t like = first_[places_.pattern[p]];
      if (like < place) {
        rows.repeat_row(before + like,
                        places_.shift[p] - places_.shift[static_cast<std::size_t>(like)]);
        continue;
      }
      fill(place);
      rows.end_row();
    }
  }

 private:
  SparseRows rows_;
  SparseWeight places_;
  std::vector<std::int64_t> first_;  // place of each pattern
};

struct Entry {
  std::int64_t column;
  double weight;
};

// Along one axis.
std::vector<Entry> entries_at(const ResizePlace& place) {
  if (place.share == 0) return {{place.source, 1}};
  return {{place.source, 1 - place.share}, {place.source + 1, place.share}};
}

// An axis without places stays as it is.
std::vector<ResizePlace> places_along(const std::vector<ResizePlace>& places, std::int64_t size) {
  if (!places.empty()) return places;
  std::vector<ResizePlace> same;
  for (std::int64_t i = 0; i < size; ++i) same.push_back({i});
  return same;
}

}  // namespace

FloatMap convolution_map(const FloatNode& node, const Shape& operand,
                         const Tensor<double>& weight) {
  const ConvolutionShape shape = convolution_shape(node, operand, weight.shape);
  const std::vector<std::int64_t> taps = window_taps(shape.windows);
  const std::int64_t positions = shape.windows.positions(), kernel = shape.windows.kernel_size(),
                     pixels = number_of_elements(shape.windows.input);
  const auto tap_of = [&](std::int64_t p, std::int64_t k) {
    return taps[static_cast<std::size_t>(p * kernel + k)];
  };
  Places places(pixels);
  for (std::int64_t p = 0; p < positions; ++p) {
    for (std::int64_t k = 0; k < kernel; ++k) {
      if (tap_of(p, k) >= 0) places.add(tap_of(p, k), k);
    }
    places.end_place();
  }
  places.finish();
  check_entries(node,
                as_double(shape.out_channels) * as_double(shape.group_in()) * places.entries());
  FloatRows rows(shape.in_channels * pixels);
  for (std::int64_t out = 0; out < shape.out_channels; ++out) {
    const std::int64_t first_channel = out / shape.group_out() * shape.group_in();
    places.add_rows(rows, [&](std::int64_t p) {
      for (std::int64_t in = 0; in < shape.group_in(); ++in) {
        const std::int64_t first = (out * shape.group_in() + in) * kernel;
        for (std::int64_t k = 0; k < kernel; ++k) {
          if (tap_of(p, k) < 0) continue;
          rows.add((first_channel + in) * pixels + tap_of(p, k),
                   weight.data[static_cast<std::size_t>(first + k)], first + k);
        }
      }
    });
  }
  FloatMap map = rows.finish();
  map.weights = weight.data;
  map.weight_count = static_cast<std::int64_t>(weight.data.size());
  return map;
}

FloatMap transposed_convolution_map(const FloatNode& node, const Shape& operand,
                                    const Tensor<double>& weight) {
  const ConvolutionShape shape = transposed_convolution_shape(node, operand, weight.shape);
  const std::vector<std::int64_t> taps = window_taps(shape.windows);
  const std::int64_t pixels = shape.windows.positions(), kernel = shape.windows.kernel_size();
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
  Places places(pixels);
  for (const std::vector<Source>& place : sources) {
    for (const Source& source : place) places.add(source.pixel, source.k);
    places.end_place();
  }
  places.finish();
  check_entries(node,
                as_double(shape.out_channels) * as_double(shape.group_in()) * places.entries());
  FloatRows rows(shape.in_channels * pixels);
  for (std::int64_t out = 0; out < shape.out_channels; ++out) {
    const std::int64_t first = out / shape.group_out() * shape.group_in();
    places.add_rows(rows, [&](std::int64_t p) {
      for (std::int64_t in = first; in < first + shape.group_in(); ++in) {
        const std::int64_t row = in * shape.group_out() + out % shape.group_out();
        for (const Source& source : sources[static_cast<std::size_t>(p)]) {
          rows.add(in * pixels + source.pixel,
                   weight.data[static_cast<std::size_t>(row * kernel + source.k)]);
        }
      }
    });
  }
  FloatMap map = rows.finish();
  map.weights = weight.data;
  return map;
}

FloatMap average_pool_map(const FloatNode& node, const Shape& operand) {
  const Windows windows = windows_of(node, operand, {});
  const std::vector<std::int64_t> taps = window_taps(windows);
  const std::vector<std::int64_t> counts = window_counts(node, windows, taps);
  const std::int64_t kernel = windows.kernel_size(), pixels = number_of_elements(windows.input);
  FloatRows rows(operand[1] * pixels);
  for (std::size_t p = 0; p < counts.size(); ++p) {
    for (std::int64_t k = 0; k < kernel; ++k) {
      const std::int64_t tap =
          taps[p * static_cast<std::size_t>(kernel) + static_cast<std::size_t>(k)];
      if (tap >= 0) rows.add(tap, 1 / as_double(counts[p]));
    }
    rows.end_row();
  }
  for (std::int64_t channel = 1; channel < operand[1]; ++channel) {
    for (std::int64_t p = 0; p < static_cast<std::int64_t>(counts.size()); ++p)
      rows.repeat_row(p, channel * pixels);
  }
  return rows.finish();
}

FloatMap reduction_map(const FloatNode& node, const Operands& operands, const Shape& operand) {
  const Reduction reduction = reduction_of(node, operands, operand);
  const std::vector<std::int64_t> row_of = reduction.rows(operand);
  // By row, the columns that it sums, ascending: a counting sort of the columns by their rows.
  std::vector<std::size_t> first(static_cast<std::size_t>(number_of_elements(reduction.shape)) + 1);
  for (const std::int64_t row : row_of) ++first[static_cast<std::size_t>(row) + 1];
  std::partial_sum(first.begin(), first.end(), first.begin());
  std::vector<std::int64_t> columns(row_of.size());
  std::vector<std::size_t> next(first.begin(), first.end() - 1);
  for (std::size_t i = 0; i < row_of.size(); ++i)
    columns[next[static_cast<std::size_t>(row_of[i])]++] = static_cast<std::int64_t>(i);
  FloatRows rows(static_cast<std::int64_t>(row_of.size()));
  for (std::size_t row = 0; row + 1 < first.size(); ++row) {
    for (std::size_t i = first[row]; i < first[row + 1]; ++i)
      rows.add(columns[i], 1 / reduction.divisor);
    rows.end_row();
  }
  return rows.finish();
}

FloatMap resize_map(const FloatNode& node, const Operands& operands, const Shape& operand) {
  const ResizePlaces places = resize_places(node, operands, operand);
  // By axis, what each place of the result reads along it.
  std::vector<std::vector<std::vector<Entry>>> along(operand.size());
  double entries = 1;
  std::int64_t results = 1;
  for (std::size_t axis = 0; axis < operand.size(); ++axis) {
    std::int64_t on_axis = 0;
    for (const ResizePlace& place : places_along(places[axis], operand[axis])) {
      along[axis].push_back(entries_at(place));
      on_axis += static_cast<std::int64_t>(along[axis].back().size());
    }
    entries *= as_double(on_axis);
    results *= static_cast<std::int64_t>(along[axis].size());
  }
  check_entries(node, entries);
  FloatRows rows(number_of_elements(operand));
  std::vector<Entry> row, finer;  // of the axes so far
  for (std::int64_t result = 0; result < results; ++result) {
    row = {{0, 1}};
    std::int64_t rest = result, inner_results = results;
    for (std::size_t axis = 0; axis < operand.size(); ++axis) {
      inner_results /= static_cast<std::int64_t>(along[axis].size());
      finer.clear();
      for (const Entry& outer : row) {
        for (const Entry& inner : along[axis][static_cast<std::size_t>(rest / inner_results)])
          finer.push_back(
              {outer.column * operand[axis] + inner.column, outer.weight * inner.weight});
      }
      rest %= inner_results;
      std::swap(row, finer);
    }
    for (const Entry& entry : row) rows.add(entry.column, entry.weight);
    rows.end_row();
  }
  return rows.finish();
}

}  // namespace torusml
