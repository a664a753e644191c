#include "plan/read_probabilities.h"

#include <cmath>
#include <cstdint>

#include "parameters/noise.h"

namespace torusml {
namespace {

double leave(double distance, double spread) {
  if (distance <= 0) return 1;
  return distance > 40 * spread ? 0 : tail_probability(distance / spread);
}

double row_flip_probability(const Table& table, std::size_t row, double spread,
                            const std::vector<double>& shifts) {
  const auto size = static_cast<std::int64_t>(table.domain.size());
  const std::int64_t* entries = table.entries.data() + static_cast<std::int64_t>(row) * size;
  double total = 0;
  std::int64_t start = 0;
  while (start < size) {
    std::int64_t end = start;
    while (end + 1 < size && entries[end + 1] == entries[start]) ++end;
    for (std::int64_t v = start; v <= end; ++v) {
      const double below = static_cast<double>(v - start) + 0.5,
                   above = static_cast<double>(end - v) + 0.5;
      if (start > 0)
        total += 0.5 * leave(below - shifts[static_cast<std::size_t>(start - 1)], spread);
      if (end + 1 < size)
        total += 0.5 * leave(above + shifts[static_cast<std::size_t>(end)], spread);
    }
    start = end + 1;
  }
  return total / static_cast<double>(size);
}

}  // namespace

std::vector<double> border_shifts(Interval interval, const TensorPlan& tensor,
                                  std::size_t table_size) {
  const double entries_per_turn = 2 * static_cast<double>(table_size);
  std::vector<double> shifts(interval.size() - 1);
  for (std::size_t b = 0; b < shifts.size(); ++b) {
    const double value = static_cast<double>(interval.lower) + static_cast<double>(b) + 0.5;
    const double entry = (tensor.scale * (value - tensor.center) + 0.25) * entries_per_turn;
    shifts[b] = (std::ceil(entry - 0.5) - entry) / entries_per_turn / tensor.scale;
  }
  return shifts;
}

double cross_probability(double distance, const std::vector<double>& shifts, double spread) {
  if (shifts.empty()) return leave(distance, spread);
  double total = 0;
  for (const double shift : shifts)
    total += 0.5 * (leave(distance + shift, spread) + leave(distance - shift, spread));
  return total / static_cast<double>(shifts.size());
}

double mean_flip_probability(const Lut& lut, double spread, const std::vector<double>& shifts) {
  double total = 0;
  for (const Table& table : lut.tables) {
    std::vector<double> share(static_cast<std::size_t>(table.rows), 0);
    if (table.row_of_element.empty()) share[0] = 1;
    for (std::uint32_t row : table.row_of_element)
      share[row] += 1 / static_cast<double>(table.row_of_element.size());
    for (std::size_t row = 0; row < share.size(); ++row) {
      total += share[row] * row_flip_probability(table, row, spread, shifts);
    }
  }
  return total / static_cast<double>(lut.tables.size());
}

}  // namespace torusml
