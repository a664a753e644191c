#include "lowering/channels.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <span>
#include <tuple>

namespace torusml {
namespace {

std::int64_t width(Interval interval) { return interval.upper - interval.lower; }

double squared_norm(std::span<const std::int64_t> values) {
  double sum = 0;
  for (const std::int64_t w : values) sum += static_cast<double>(w) * static_cast<double>(w);
  return sum;
}

// Of the longest row of each channel; empty where rows do not belong to channels.
std::vector<double> squared_norms(const Weight& weight, const Channels& channels) {
  std::vector<double> norms(static_cast<std::size_t>(channels.count), 0);
  if (const auto* dense = std::get_if<DenseWeight>(&weight)) {
    if (channels.inner != 1 || dense->rows != channels.count) return {};
    for (std::int64_t row = 0; row < dense->rows; ++row) {
      norms[static_cast<std::size_t>(row)] = squared_norm(
          {dense->data.data() + row * dense->columns, static_cast<std::size_t>(dense->columns)});
    }
    return norms;
  }
  if (const auto* sparse = std::get_if<SparseWeight>(&weight)) {
    std::vector<double> of_pattern(sparse->patterns(), -1);
    for (std::int64_t row = 0; row < sparse->rows; ++row) {
      double& known = of_pattern[sparse->pattern[static_cast<std::size_t>(row)]];
      if (known < 0) known = squared_norm(sparse->row(row));
      double& norm = norms[channels.of(row)];
      norm = std::max(norm, known);
    }
    return norms;
  }
  return {};
}

}  // namespace

Channels::Channels(const Shape& shape) {
  if (shape.size() < 2) return;
  count = shape[1];
  for (std::size_t axis = 2; axis < shape.size(); ++axis) inner *= shape[axis];
}

std::vector<Interval> channel_hulls(const ElementRanges& ranges, const Channels& channels) {
  std::vector<Interval> hulls(static_cast<std::size_t>(channels.count));
  std::vector<bool> is_known(hulls.size());
  for (std::size_t e = 0; e < ranges.lower.size(); ++e) {
    const Interval own{static_cast<std::int64_t>(ranges.lower[e]),
                       static_cast<std::int64_t>(ranges.upper[e])};
    const std::size_t c = channels.of(static_cast<std::int64_t>(e));
    hulls[c] = is_known[c] ? hull(hulls[c], own) : own;
    is_known[c] = true;
  }
  return hulls;
}

std::int64_t centring_offset(Interval own, std::int64_t factor, Interval common) {
  return common.lower + (width(common) - factor * width(own)) / 2 - factor * own.lower;
}

Centring centre(const std::vector<Interval>& intervals) {
  const std::int64_t widest = width(*std::ranges::max_element(intervals, {}, width));
  const std::int64_t below = widest / 2 + widest % 2;
  Centring result{{-below, widest - below}, {}};
  for (const Interval& own : intervals)
    result.offset.push_back(centring_offset(own, 1, result.common));
  return result;
}

std::vector<std::int64_t> channel_factors(const std::vector<Interval>& intervals, Interval common,
                                          const Weight& weight, const Channels& channels) {
  std::vector<std::int64_t> factors(intervals.size(), 1);
  const std::vector<double> norms = squared_norms(weight, channels);
  if (norms.empty()) return factors;
  const double longest = *std::ranges::max_element(norms);
  for (std::size_t c = 0; c < factors.size(); ++c) {
    if (width(intervals[c]) == 0 || norms[c] == 0) continue;
    factors[c] = width(common) / width(intervals[c]);
    while (static_cast<double>(factors[c] * factors[c]) * norms[c] > longest) --factors[c];
  }
  return factors;
}

void scale_rows(Weight& weight, const std::vector<std::int64_t>& factors,
                const Channels& channels) {
  if (auto* dense = std::get_if<DenseWeight>(&weight)) {
    for (std::size_t i = 0; i < dense->data.size(); ++i)
      dense->data[i] *= factors[i / static_cast<std::size_t>(dense->columns)];
  } else if (auto* sparse = std::get_if<SparseWeight>(&weight)) {
    SparseRows scaled(sparse->columns);
    for (std::int64_t row = 0; row < sparse->rows; ++row) {
      const std::int64_t factor = factors[channels.of(row)];
      sparse->row(row).for_each(
          [&](std::int64_t column, std::int64_t value) { scaled.add(column, value * factor); });
      scaled.end_row();
    }
    *sparse = scaled.finish();
  }
}

Table rescaled(const Table& table, const std::vector<std::int64_t>& factors,
               const std::vector<std::int64_t>& offsets, const Channels& channels,
               std::int64_t elements) {
  Table result;
  result.domain = table.domain;
  result.rows = 0;
  std::map<std::tuple<std::size_t, std::int64_t, std::int64_t>, std::uint32_t> made;
  std::map<std::vector<std::int64_t>, std::uint32_t> known;
  for (std::int64_t e = 0; e < elements; ++e) {
    const std::size_t row = table.row_of(static_cast<std::size_t>(e)), c = channels.of(e);
    const auto [place, is_new] = made.emplace(std::tuple(row, factors[c], offsets[c]), 0);
    if (is_new) {
      std::vector<std::int64_t> entries;
      for (std::int64_t v = table.domain.lower; v <= table.domain.upper; ++v) {
        const double x =
            std::floor(static_cast<double>(v - offsets[c]) / static_cast<double>(factors[c]) + 0.5);
        entries.push_back(table.at(
            e, std::clamp(static_cast<std::int64_t>(x), table.domain.lower, table.domain.upper)));
      }
      const auto [twin, is_first] =
          known.emplace(std::move(entries), static_cast<std::uint32_t>(result.rows));
      if (is_first) {
        result.entries.insert(result.entries.end(), twin->first.begin(), twin->first.end());
        ++result.rows;
      }
      place->second = twin->second;
    }
    result.row_of_element.push_back(place->second);
  }
  if (result.rows == 1) result.row_of_element.clear();
  return result;
}

}  // namespace torusml
