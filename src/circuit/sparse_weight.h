// Sparse linear maps over flattened tensors: convolutions, poolings, moves of elements.
//
//   SparseRows rows(columns);
//   rows.add(column, value);          // entries of one row
//   rows.end_row();
//   SparseWeight weight = rows.finish();
//   weight.row(r).for_each([&](std::int64_t column, std::int64_t value) { ... });
//
// Rows that are equal but for a shift of their columns share one pattern, so that a convolution
// takes the memory of its kernel, once for each way in which it meets the border.
// Cost of building: O(entries), a hash table of patterns.
#pragma once

#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

namespace torusml {

// One row: entry e is value[e] in column shift + offset[e].
struct SparseRow {
  std::int64_t shift = 0;
  std::span<const std::int64_t> offset, value;

  std::size_t size() const { return value.size(); }
  std::int64_t column(std::size_t e) const { return shift + offset[e]; }
  template <class Visit>
  void for_each(const Visit& visit) const {
    for (std::size_t e = 0; e < value.size(); ++e) visit(shift + offset[e], value[e]);
  }
};

// Of a row as a vector: entries of one column count as their sum.
double squared_norm(const SparseRow& row);

struct SparseWeight {
  std::int64_t rows = 0, columns = 0;
  // Entries of pattern p: pattern_start[p] to pattern_start[p + 1]. The first offset is 0.
  std::vector<std::int64_t> pattern_start{0}, offset, value;
  // By row.
  std::vector<std::uint32_t> pattern;
  std::vector<std::int64_t> shift;

  std::size_t patterns() const { return pattern_start.size() - 1; }
  std::size_t pattern_size(std::size_t p) const {
    return static_cast<std::size_t>(pattern_start[p + 1] - pattern_start[p]);
  }
  SparseRow row(std::int64_t r) const {
    const std::size_t p = pattern[static_cast<std::size_t>(r)];
    const auto first = static_cast<std::size_t>(pattern_start[p]);
    return {shift[static_cast<std::size_t>(r)],
            {offset.data() + first, pattern_size(p)},
            {value.data() + first, pattern_size(p)}};
  }
  // Of all rows together.
  std::int64_t entries() const;

  friend bool operator==(const SparseWeight&, const SparseWeight&) = default;
};

// Equal rows, given in the same order, make equal weights.
class SparseRows {
 public:
  explicit SparseRows(std::int64_t columns) { weight_.columns = columns; }

  void add(std::int64_t column, std::int64_t value) {
    columns_.push_back(column);
    values_.push_back(value);
  }
  void end_row();
  SparseWeight finish() { return std::move(weight_); }

 private:
  std::uint32_t pattern_of_row();

  SparseWeight weight_;
  std::vector<std::int64_t> columns_, values_;                   // of the row that is being made
  std::unordered_multimap<std::uint64_t, std::uint32_t> known_;  // patterns by hash
};

// Of compressed rows: row r has the entries row_start[r] to row_start[r + 1].
SparseWeight sparse_weight(std::int64_t columns, std::span<const std::int64_t> row_start,
                           std::span<const std::int64_t> column,
                           std::span<const std::int64_t> value);

}  // namespace torusml
