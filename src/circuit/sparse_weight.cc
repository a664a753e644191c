#include "circuit/sparse_weight.h"

#include <algorithm>
#include <utility>

namespace torusml {
namespace {

// FNV-1a on whole words, with the upper bits folded in.
std::uint64_t mix(std::uint64_t hash, std::int64_t word) {
  hash = (hash ^ static_cast<std::uint64_t>(word)) * 0x100000001b3ULL;
  return hash ^ (hash >> 32);
}

}  // namespace

double squared_norm(const SparseRow& row) {
  std::vector<std::pair<std::int64_t, std::int64_t>> entries;  // offset, value
  for (std::size_t e = 0; e < row.size(); ++e) entries.emplace_back(row.offset[e], row.value[e]);
  std::ranges::sort(entries);
  double sum = 0;
  for (std::size_t e = 0; e < entries.size();) {
    double value = 0;
    const std::int64_t offset = entries[e].first;
    for (; e < entries.size() && entries[e].first == offset; ++e)
      value += static_cast<double>(entries[e].second);
    sum += value * value;
  }
  return sum;
}

std::int64_t SparseWeight::entries() const {
  std::int64_t count = 0;
  for (const std::uint32_t p : pattern) count += static_cast<std::int64_t>(pattern_size(p));
  return count;
}

void SparseRows::end_row() {
  const std::int64_t shift = columns_.empty() ? 0 : columns_.front();
  for (std::int64_t& column : columns_) column -= shift;
  weight_.pattern.push_back(pattern_of_row());
  weight_.shift.push_back(shift);
  ++weight_.rows;
  columns_.clear();
  values_.clear();
}

std::uint32_t SparseRows::pattern_of_row() {
  std::uint64_t hash = 0xcbf29ce484222325ULL;
  for (std::size_t e = 0; e < values_.size(); ++e) hash = mix(mix(hash, columns_[e]), values_[e]);
  const auto [first, last] = known_.equal_range(hash);
  for (auto it = first; it != last; ++it) {
    const auto start = weight_.pattern_start[it->second];
    if (weight_.pattern_size(it->second) == values_.size() &&
        std::equal(columns_.begin(), columns_.end(), weight_.offset.begin() + start) &&
        std::equal(values_.begin(), values_.end(), weight_.value.begin() + start)) {
      return it->second;
    }
  }
  const auto made = static_cast<std::uint32_t>(weight_.patterns());
  weight_.offset.insert(weight_.offset.end(), columns_.begin(), columns_.end());
  weight_.value.insert(weight_.value.end(), values_.begin(), values_.end());
  weight_.pattern_start.push_back(static_cast<std::int64_t>(weight_.value.size()));
  known_.emplace(hash, made);
  return made;
}

SparseWeight sparse_weight(std::int64_t columns, std::span<const std::int64_t> row_start,
                           std::span<const std::int64_t> column,
                           std::span<const std::int64_t> value) {
  SparseRows rows(columns);
  for (std::size_t row = 0; row + 1 < row_start.size(); ++row) {
    const auto last = static_cast<std::size_t>(row_start[row + 1]);
    for (auto e = static_cast<std::size_t>(row_start[row]); e < last; ++e)
      rows.add(column[e], value[e]);
    rows.end_row();
  }
  return rows.finish();
}

}  // namespace torusml
