#include "lowering/ranges.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>

#include "torusml/error.h"

namespace torusml {
namespace {

struct Sum {
  double lower, upper;

  void add(std::int64_t factor, double low, double high) {
    const auto f = static_cast<double>(factor);
    lower += f > 0 ? f * low : f * high;
    upper += f > 0 ? f * high : f * low;
  }
};

void add(const DenseWeight& w, const ElementRanges& x, ElementRanges& y) {
  const auto rows = static_cast<std::size_t>(w.rows), columns = static_cast<std::size_t>(w.columns);
  for (std::size_t i = 0; i < y.lower.size(); ++i) {
    Sum sum{y.lower[i], y.upper[i]};
    const std::size_t first = i / rows * columns;
    const std::int64_t* row = w.data.data() + i % rows * columns;
    for (std::size_t c = 0; c < columns; ++c)
      sum.add(row[c], x.lower[first + c], x.upper[first + c]);
    y.lower[i] = sum.lower;
    y.upper[i] = sum.upper;
  }
}

void add(const SparseWeight& w, const ElementRanges& x, ElementRanges& y) {
  for (std::size_t i = 0; i < y.lower.size(); ++i) {
    Sum sum{y.lower[i], y.upper[i]};
    w.row(static_cast<std::int64_t>(i)).for_each([&](std::int64_t column, std::int64_t value) {
      const auto c = static_cast<std::size_t>(column);
      sum.add(value, x.lower[c], x.upper[c]);
    });
    y.lower[i] = sum.lower;
    y.upper[i] = sum.upper;
  }
}

void add(const ScaleWeight& w, const ElementRanges& x, ElementRanges& y) {
  for (std::size_t i = 0; i < y.lower.size(); ++i) {
    Sum sum{y.lower[i], y.upper[i]};
    sum.add(w.factor, x.lower[i], x.upper[i]);
    y.lower[i] = sum.lower;
    y.upper[i] = sum.upper;
  }
}

}  // namespace

Interval ElementRanges::hull() const {
  return {static_cast<std::int64_t>(*std::ranges::min_element(lower)),
          static_cast<std::int64_t>(*std::ranges::max_element(upper))};
}

ElementRanges uniform_ranges(std::int64_t elements, Interval interval) {
  const auto count = static_cast<std::size_t>(elements);
  return {std::vector<double>(count, static_cast<double>(interval.lower)),
          std::vector<double>(count, static_cast<double>(interval.upper))};
}

ElementRanges measured_ranges(const std::vector<double>& samples, std::int64_t elements) {
  const auto count = static_cast<std::size_t>(elements);
  const std::vector<double> first(samples.begin(), samples.begin() + elements);
  ElementRanges ranges{first, first};
  double *lower = ranges.lower.data(), *upper = ranges.upper.data();
  for (std::size_t s = 0; s < samples.size(); s += count) {
    const double* x = samples.data() + s;
    for (std::size_t e = 0; e < count; ++e) {
      lower[e] = x[e] < lower[e] ? x[e] : lower[e];
      upper[e] = x[e] > upper[e] ? x[e] : upper[e];
    }
  }
  return ranges;
}

void add_ranges(const Weight& weight, const ElementRanges& x, ElementRanges& y,
                const std::string& layer) {
  std::visit([&](const auto& w) { add(w, x, y); }, weight);
  for (std::size_t i = 0; i < y.lower.size(); ++i) {
    if (y.lower[i] >= -0x1p52 && y.upper[i] <= 0x1p52) continue;
    throw Error(ErrorCode::accumulator_too_wide,
                fmt::format("an accumulator may reach {:.3g}, more than 53 bits",
                            std::max(-y.lower[i], y.upper[i])),
                fmt::format("layer '{}'", layer), "fewer bits for weights and activations");
  }
}

void clip_ranges(Interval interval, ElementRanges& ranges) {
  const auto lower = static_cast<double>(interval.lower),
             upper = static_cast<double>(interval.upper);
  for (double& v : ranges.lower) v = std::clamp(v, lower, upper);
  for (double& v : ranges.upper) v = std::clamp(v, lower, upper);
}

ElementRanges table_ranges(const Table& table, const ElementRanges& x) {
  ElementRanges y = x;
  for (std::size_t e = 0; e < x.lower.size(); ++e) {
    const auto element = static_cast<std::int64_t>(e);
    const auto first = std::max(static_cast<std::int64_t>(x.lower[e]), table.domain.lower);
    const auto last = std::min(static_cast<std::int64_t>(x.upper[e]), table.domain.upper);
    std::int64_t low = table.at(element, first), high = low;
    for (std::int64_t v = first + 1; v <= last; ++v) {
      low = std::min(low, table.at(element, v));
      high = std::max(high, table.at(element, v));
    }
    y.lower[e] = static_cast<double>(low);
    y.upper[e] = static_cast<double>(high);
  }
  return y;
}

Interval declared_interval(Interval calibrated, Interval guaranteed, double margin,
                           bool prefer_guaranteed_same_bits) {
  const double extra = margin * static_cast<double>(calibrated.upper - calibrated.lower);
  const double lower = std::floor(static_cast<double>(calibrated.lower) - extra);
  const double upper = std::ceil(static_cast<double>(calibrated.upper) + extra);
  Interval declared = guaranteed;
  if (lower > static_cast<double>(guaranteed.lower))
    declared.lower = static_cast<std::int64_t>(lower);
  if (upper < static_cast<double>(guaranteed.upper))
    declared.upper = static_cast<std::int64_t>(upper);
  const bool same_bits =
      prefer_guaranteed_same_bits && size_bits(guaranteed) == size_bits(declared);
  return same_bits ? guaranteed : declared;
}

int size_bits(Interval interval) {
  return std::max(1, static_cast<int>(std::bit_width(interval.size() - 1)));
}

}  // namespace torusml
