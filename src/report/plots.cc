#include "report/plots.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <span>

#include "report/markup.h"

namespace torusml {
namespace {

// Of a table's plot, in pixels.
constexpr double kWidth = 320, kHeight = 150, kLeft = 46, kRight = 8, kTop = 10, kBottom = 26;

// Integers along an axis, each half a unit wide on both sides.
struct Axis {
  double lower = 0, upper = 1;  // in integers
  double from = 0, to = 1;      // in pixels

  double at(double value) const { return from + (to - from) * (value - lower) / (upper - lower); }
};

// The outline of one row: within each column its first, least, largest and last entry.
std::string row_path(const Table& table, std::size_t row, std::size_t columns, const Axis& x,
                     const Axis& y) {
  const std::size_t size = table.domain.size();
  const std::int64_t* entries = table.entries.data() + row * size;
  const auto lower = static_cast<double>(table.domain.lower);
  std::string path = fmt::format("M{} {}", coordinate(x.at(lower - 0.5)),
                                 coordinate(y.at(static_cast<double>(entries[0]))));
  std::int64_t current = entries[0];
  const auto go_to = [&](std::int64_t entry) {
    if (entry == current) return;
    path += fmt::format("V{}", coordinate(y.at(static_cast<double>(entry))));
    current = entry;
  };
  const std::size_t count = std::min(columns, size);
  for (std::size_t c = 0; c < count; ++c) {
    const std::size_t begin = c * size / count, end = (c + 1) * size / count;
    const auto [least, most] = std::ranges::minmax(std::span(entries + begin, end - begin));
    if (least != current || most != current)
      path += fmt::format("H{}", coordinate(x.at(lower + static_cast<double>(begin) - 0.5)));
    const bool rises = entries[end - 1] >= entries[begin];
    go_to(entries[begin]);
    go_to(rises ? least : most);
    go_to(rises ? most : least);
    go_to(entries[end - 1]);
  }
  return path + fmt::format("H{}", coordinate(x.at(static_cast<double>(table.domain.upper) + 0.5)));
}

std::string label(double x, double y, const char* anchor, const std::string& content) {
  return fmt::format("<text x=\"{}\" y=\"{}\" text-anchor=\"{}\">{}</text>", coordinate(x),
                     coordinate(y), anchor, content);
}

std::string line(const char* style, double x1, double y1, double x2, double y2) {
  return fmt::format("<line class=\"{}\" x1=\"{}\" y1=\"{}\" x2=\"{}\" y2=\"{}\"/>", style,
                     coordinate(x1), coordinate(y1), coordinate(x2), coordinate(y2));
}

// Two standard deviations of the noise, below the curves.
std::string noise_bar(double sigma, const Axis& x) {
  const double half =
      std::min(sigma, 0.5 * (x.upper - x.lower)) * (x.to - x.from) / (x.upper - x.lower);
  const double middle = 0.5 * (x.from + x.to), y = kHeight - kBottom + 13;
  return fmt::format(
      "<g class=\"noise\"><title>noise: one standard deviation to either side, {:.3g} "
      "integers</title><path d=\"M{} {}v6m0 -3H{}m0 -3v6\"/></g>",
      sigma, coordinate(middle - half), coordinate(y), coordinate(middle + half));
}

}  // namespace

std::vector<std::size_t> plotted_rows(const Table& table, std::size_t most) {
  const auto rows = static_cast<std::size_t>(table.rows);
  const std::size_t count = std::min(rows, most);
  std::vector<std::size_t> chosen;
  for (std::size_t i = 0; i < count; ++i)
    chosen.push_back(count == 1 ? 0 : i * (rows - 1) / (count - 1));
  return chosen;
}

std::string table_plot(const Table& table, const TablePlotOptions& options) {
  const std::vector<std::size_t> rows = plotted_rows(table, options.most_rows);
  const std::size_t size = table.domain.size();
  Interval range{table.entries[rows[0] * size], table.entries[rows[0] * size]};
  for (const std::size_t row : rows) {
    const auto [least, most] =
        std::ranges::minmax(std::span(table.entries.data() + row * size, size));
    range = hull(range, {least, most});
  }
  const auto lower = static_cast<double>(range.lower), upper = static_cast<double>(range.upper);
  const Axis x{static_cast<double>(table.domain.lower) - 0.5,
               static_cast<double>(table.domain.upper) + 0.5, kLeft, kWidth - kRight};
  const Axis y{lower == upper ? lower - 1 : lower, lower == upper ? upper + 1 : upper,
               kHeight - kBottom, kTop};
  std::string svg = fmt::format(
      "<svg class=\"plot\" viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"table {}: {} rows over "
      "{}\">",
      kWidth, kHeight, escape(shorten(table.name, 60)), table.rows, text(table.domain));
  svg += line("axis", x.from, y.from, x.to, y.from) + line("axis", x.from, y.from, x.from, y.to);
  if (x.lower < 0 && x.upper > 0) svg += line("zero", x.at(0), y.from, x.at(0), y.to);
  if (y.lower < 0 && y.upper > 0) svg += line("zero", x.from, y.at(0), x.to, y.at(0));
  for (const std::size_t row : rows) {
    svg += fmt::format("<path class=\"curve\" d=\"{}\"/>",
                       row_path(table, row, options.columns, x, y));
  }
  if (options.sigma > 0) svg += noise_bar(options.sigma, x);
  svg += label(x.from, kHeight - 6, "start", grouped(table.domain.lower));
  svg += label(x.to, kHeight - 6, "end", grouped(table.domain.upper));
  svg += label(x.from - 5, y.at(lower) + (lower == upper ? 4 : 0), "end", grouped(range.lower));
  if (lower != upper) svg += label(x.from - 5, y.at(upper) + 8, "end", grouped(range.upper));
  return svg + "</svg>";
}

std::string range_bars(const std::vector<RangeBar>& bars) {
  constexpr double kBarWidth = 320, kPitch = 14, kBar = 8, kMargin = 2;
  Interval all = bars.front().interval;
  for (const RangeBar& bar : bars) all = hull(all, bar.interval);
  const Axis x{static_cast<double>(all.lower) - 0.5, static_cast<double>(all.upper) + 0.5, kMargin,
               kBarWidth - kMargin};
  const double height = kPitch * static_cast<double>(bars.size());
  std::string svg = fmt::format(
      "<svg class=\"ranges\" viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"ranges on one axis "
      "from "
      "{} to {}\">",
      kBarWidth, height, grouped(all.lower), grouped(all.upper));
  if (x.lower < 0 && x.upper > 0) svg += line("zero", x.at(0), 0, x.at(0), height);
  for (std::size_t b = 0; b < bars.size(); ++b) {
    const double from = x.at(static_cast<double>(bars[b].interval.lower) - 0.5);
    const double to = x.at(static_cast<double>(bars[b].interval.upper) + 0.5);
    svg += fmt::format(
        "<rect class=\"{}\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" rx=\"2\"><title>{} "
        "{}</title>"
        "</rect>",
        bars[b].style, coordinate(from), coordinate(kPitch * static_cast<double>(b) + 3),
        coordinate(std::max(to - from, 1.5)), kBar, bars[b].label, text(bars[b].interval));
  }
  return svg + "</svg>";
}

}  // namespace torusml
