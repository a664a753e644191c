// Drawings of a page, as inline SVG: its classes are given colours by the page's style.
//
//   page += table_plot(table, {.most_rows = 8, .columns = 120});
//
// Thread rule: pure functions. Cost: one pass over what is drawn.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "circuit/circuit.h"

namespace torusml {

struct TablePlotOptions {
  std::size_t most_rows = 8;  // rows of the table that are drawn
  std::size_t columns = 120;  // across the domain: of each, first, least, largest and last entry
  double sigma = 0;           // of the noise at the lookup, in integers: a bar, if not 0
};

// The rows that are drawn: all, or so many at even distances.
std::vector<std::size_t> plotted_rows(const Table& table, std::size_t most);
// Entries over the domain, stepwise.
std::string table_plot(const Table& table, const TablePlotOptions& options);

struct RangeBar {
  std::string label, style;  // a class of the page
  Interval interval;
};
// Intervals under each other on one axis.
std::string range_bars(const std::vector<RangeBar>& bars);

}  // namespace torusml
