#include "quantization/tied_weights.h"

#include <algorithm>

namespace torusml {
namespace {

std::size_t size(std::int64_t n) { return static_cast<std::size_t>(n); }

TiedWeights of_matrix(const FloatMap& map) {
  TiedWeights tied;
  tied.channels = map.rows;
  tied.parameters = map.columns;
  tied.positions = map.blocks;
  tied.value = map.value;
  TiedWeights::Pattern all;
  for (std::int64_t c = 0; c < map.rows; ++c) {
    all.channels.push_back(c);
    for (std::int64_t p = 0; p < map.blocks; ++p) tied.element.push_back(p * map.rows + c);
  }
  for (std::int64_t i = 0; i < map.blocks * map.columns; ++i) all.column.push_back(i);
  tied.patterns.push_back(std::move(all));
  for (std::int64_t e = 0; e < map.rows * map.columns; ++e) tied.parameter_of.push_back(e);
  return tied;
}

// Two channels read the same elements, as far as both say.
bool agree(const std::vector<std::int64_t>& a, const std::vector<std::int64_t>& b) {
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (a[i] >= 0 && b[i] >= 0 && a[i] != b[i]) return false;
  }
  return true;
}

void add_to_patterns(std::vector<TiedWeights::Pattern>& patterns, std::int64_t channel,
                     std::vector<std::int64_t> column) {
  for (TiedWeights::Pattern& pattern : patterns) {
    if (!agree(pattern.column, column)) continue;
    pattern.channels.push_back(channel);
    for (std::size_t i = 0; i < column.size(); ++i)
      pattern.column[i] = std::max(pattern.column[i], column[i]);
    return;
  }
  patterns.push_back({{channel}, std::move(column)});
}

// Entries of a row of a sparse map or of one matrix: (column, place in `value`).
template <class Visit>
void for_each_entry(const FloatMap& map, std::int64_t row, const Visit& visit) {
  if (map.kind == FloatMap::Kind::sparse) return map.for_each_in_row(row, visit);
  for (std::int64_t c = 0; c < map.columns; ++c) visit(c, size(row * map.columns + c));
}

std::optional<TiedWeights> of_convolution(const FloatMap& map, const Shape& shape) {
  if (shape.size() < 2 || map.blocks != 1 || map.weight_count % shape[1] != 0) return std::nullopt;
  TiedWeights tied;
  tied.channels = shape[1];
  tied.parameters = map.weight_count / shape[1];
  tied.positions = map.rows / tied.channels;
  tied.value.assign(size(map.weight_count), 0.0);
  tied.parameter_of = map.weight_of;
  bool is_tied = true;
  std::vector<bool> is_known(tied.value.size());
  for (std::int64_t c = 0; c < tied.channels; ++c) {
    std::vector<std::int64_t> column(size(tied.positions * tied.parameters), -1);
    for (std::int64_t p = 0; p < tied.positions; ++p) {
      const std::int64_t row = c * tied.positions + p;
      tied.element.push_back(row);
      for_each_entry(map, row, [&](std::int64_t at, std::size_t e) {
        const std::int64_t weight = map.weight_of[e];
        if (weight < 0) return;
        const bool is_same = !is_known[size(weight)] || tied.value[size(weight)] == map.value[e];
        is_tied &= weight / tied.parameters == c && is_same;
        if (!is_tied) return;
        is_known[size(weight)] = true;
        tied.value[size(weight)] = map.value[e];
        column[size(p * tied.parameters + weight % tied.parameters)] = at;
      });
      if (!is_tied) return std::nullopt;
    }
    add_to_patterns(tied.patterns, c, std::move(column));
  }
  return tied;
}

}  // namespace

std::vector<std::int64_t> TiedWeights::entries(const std::vector<std::int64_t>& integers) const {
  std::vector<std::int64_t> result;
  result.reserve(parameter_of.size());
  for (const std::int64_t parameter : parameter_of)
    result.push_back(parameter < 0 ? 0 : integers[size(parameter)]);
  return result;
}

std::vector<double> TiedWeights::by_element(const std::vector<double>& by_channel) const {
  std::vector<double> result(element.size());
  for (std::size_t i = 0; i < element.size(); ++i)
    result[size(element[i])] = by_channel[i / size(positions)];
  return result;
}

std::optional<TiedWeights> tie_weights(const FloatMap& map, const Shape& shape) {
  if (map.shared_magnitude()) return std::nullopt;
  if (!map.weight_of.empty()) return of_convolution(map, shape);
  return map.kind == FloatMap::Kind::dense ? std::optional(of_matrix(map)) : std::nullopt;
}

}  // namespace torusml
