// Median and extremes of repeated measurements.
//
//   const Spread ms = spread_of({3.1, 3.0, 3.4});  // median 3.1, least 3.0, most 3.4
//
// Thread rule: pure function.
#pragma once

#include <algorithm>
#include <vector>

namespace torusml {

struct Spread {
  double median = 0, least = 0, most = 0;
};

// `values` is not empty.
inline Spread spread_of(std::vector<double> values) {
  std::ranges::sort(values);
  const std::size_t half = values.size() / 2;
  const double median =
      values.size() % 2 == 1 ? values[half] : 0.5 * (values[half - 1] + values[half]);
  return {median, values.front(), values.back()};
}

}  // namespace torusml
