#include "circuit/step.h"

#include <algorithm>

namespace torusml {

std::optional<Step> as_step(const Table& table, std::size_t row) {
  const auto size = static_cast<std::ptrdiff_t>(table.domain.size());
  const auto begin = table.entries.begin() + static_cast<std::ptrdiff_t>(row) * size;
  const auto end = begin + size;
  const auto differs = [&](std::int64_t entry) { return entry != *begin; };
  const auto first = std::find_if(begin, end, differs);
  if (first == end) return Step{table.domain.lower + size / 2, *begin, *begin};
  const auto is_above = [&](std::int64_t entry) { return entry == *first; };
  if (!std::all_of(first, end, is_above)) return std::nullopt;
  return Step{table.domain.lower + (first - begin), *begin, *first};
}

std::optional<std::uint64_t> step_reach(const Lut& lut) {
  std::int64_t reach = 1;
  for (const Table& table : lut.tables) {
    for (std::int64_t row = 0; row < table.rows; ++row) {
      const std::optional<Step> step = as_step(table, static_cast<std::size_t>(row));
      if (!step) return std::nullopt;
      reach =
          std::max({reach, step->first - table.domain.lower, table.domain.upper - step->first + 1});
    }
  }
  return static_cast<std::uint64_t>(reach);
}

}  // namespace torusml
