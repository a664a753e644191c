#include "runtime/flips.h"

#include <algorithm>
#include <cmath>

namespace torusml {

LookupCounts& LookupCounts::operator+=(const LookupCounts& other) {
  events += other.events;
  flips += other.flips;
  far += other.far;
  wraps += other.wraps;
  return *this;
}

FlipCounts& operator+=(FlipCounts& counts, const FlipCounts& other) {
  for (const auto& [node, of_node] : other) counts[node] += of_node;
  return counts;
}

LookupCounts total(const FlipCounts& counts) {
  LookupCounts sum;
  for (const auto& [node, of_node] : counts) sum += of_node;
  return sum;
}

LookupJudge::Grid::Grid(const TensorPlan& tensor, Interval interval)
    : units_per_word(std::ldexp(1 / tensor.scale, -64)),
      center(tensor.center),
      lower(static_cast<double>(interval.lower)),
      upper(static_cast<double>(interval.upper)) {}

std::int64_t LookupJudge::Grid::nearest(Torus phase) const {
  const double value = std::nearbyint(
      static_cast<double>(static_cast<std::int64_t>(phase)) * units_per_word + center);
  return static_cast<std::int64_t>(std::clamp(value, lower, upper));
}

LookupJudge::LookupJudge(const Circuit& circuit, const Plan& plan, std::size_t node)
    : lut_(std::get<Lut>(circuit.nodes.at(node).op)),
      operand_(plan.tensors[lut_.operand], circuit.values[lut_.operand].interval),
      is_odd_(plan.lookups.at(node).is_odd),
      is_wide_(plan.lookups.at(node).wide.index_bits != 0),
      guard_(plan.lookups.at(node).guard) {
  for (const ValueId result : lut_.results) {
    const TensorPlan& tensor = plan.tensors[result];
    results_.emplace_back(tensor, circuit.values[result].interval);
    mirrors_.push_back(std::llround(2 * tensor.center));  // phases are scale * (v - center)
  }
}

void LookupJudge::count(std::size_t element, std::size_t table, std::span<const Torus> operands,
                        std::span<const Torus> results, LookupCounts& counts) const {
  const Table& tables = lut_.tables[table];
  const auto size = static_cast<std::int64_t>(tables.domain.size());
  const std::int64_t* entries =
      tables.entries.data() + static_cast<std::int64_t>(tables.row_of(element)) * size;
  counts.events += operands.size();
  for (std::size_t i = 0; i < operands.size(); ++i) {
    const std::int64_t v = operand_.nearest(operands[i]) - tables.domain.lower;
    const std::int64_t r = results_[table].nearest(results[i]);
    if (r == entries[v]) continue;
    ++counts.flips;
    if (r == entries[std::max<std::int64_t>(v - 1, 0)] || r == entries[std::min(v + 1, size - 1)])
      continue;
    ++counts.far;
    counts.wraps += is_wrap(entries, size, v, r, table) ? 1 : 0;
  }
}

bool LookupJudge::is_wrap(const std::int64_t* entries, std::int64_t size, std::int64_t v,
                          std::int64_t r, std::size_t table) const {
  if (is_wide_) return false;
  const bool is_upper = 2 * v >= size;
  const std::int64_t other_end = entries[is_upper ? 0 : size - 1];
  if (r != (is_odd_ ? other_end : mirrors_[table] - other_end)) return false;
  const std::int64_t to_end = is_upper ? size - 1 - v : v;
  const auto beyond = static_cast<std::int64_t>(static_cast<double>(to_end) + guard_);
  for (std::int64_t d = 2; d <= beyond; ++d) {
    if ((v >= d && entries[v - d] == r) || (v + d < size && entries[v + d] == r)) return false;
  }
  return true;
}

}  // namespace torusml
