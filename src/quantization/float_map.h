// Linear maps of floats on one flattened sample: what a chain of linear
// operators amounts to.
//
//   FloatMap both = FloatMap::dense(3, 5, w2).after(FloatMap::dense(5, 2, w1));
//   Weight weight = both.with_integers(integers_of(both.value));
//
// Cost: dense products by Eigen; anything else as sparse rows, which are kept
// only where they pay. Sparse rows share patterns (circuit/sparse_weight.h), and
// products and sums are made once a pattern: a convolution costs memory by its
// kernel, and time by its kernel and its rows.
#pragma once

#include <optional>
#include <unordered_map>
#include <vector>

#include "circuit/circuit.h"
#include "circuit/sparse_weight.h"

namespace torusml {

// Row `like` of some others, `by` columns on.
struct ShiftedRow {
  std::int64_t like = 0, by = 0;
};

struct FloatMap {
  enum class Kind {
    dense,     // `blocks` times the same rows x columns matrix, along the diagonal
    diagonal,  // rows == columns, blocks == 1
    sparse,    // rows that share patterns, blocks == 1
  };
  Kind kind = Kind::dense;
  std::int64_t rows = 0, columns = 0, blocks = 1;
  SparseWeight entries;  // sparse only; its integers are places in `value`
  // Row-major; the diagonal; the numbers that stand in sparse rows, each once.
  std::vector<double> value;
  // The weights that the step of the integers is chosen by, where they are not `value`: those of a
  // convolution, whatever the places at which each stands.
  std::vector<double> weights;
  // Of a convolution: which of its `weight_count` weights each entry of `value` is, -1 for none.
  // Kept where entries are moved or scaled; empty for other maps.
  std::vector<std::int64_t> weight_of;
  std::int64_t weight_count = 0;

  static FloatMap dense(std::int64_t rows, std::int64_t columns, std::vector<double> value,
                        std::int64_t blocks = 1);
  static FloatMap diagonal(std::vector<double> value);
  static FloatMap identity(std::int64_t elements);
  // Entries of a row-major matrix, without its zeros where there are many.
  static FloatMap from_matrix(std::int64_t rows, std::int64_t columns,
                              const std::vector<double>& matrix);

  std::int64_t inputs() const { return columns * blocks; }
  std::int64_t outputs() const { return rows * blocks; }

  // x -> this(inner(x)). Error not_supported for products of more than 2^26
  // entries, patterns counted once.
  FloatMap after(const FloatMap& inner) const;
  FloatMap plus(const FloatMap& other) const;
  void multiply(double factor);
  // One factor per element of the operand. Not for repeated blocks.
  void scale_columns(const std::vector<double>& factors);
  std::vector<double> apply(const std::vector<double>& x) const;

  // The numbers that the step of the integers is chosen by.
  const std::vector<double>& to_scale() const { return weights.empty() ? value : weights; }
  // How often each of them counts; empty: once.
  std::vector<std::int64_t> counts_to_scale() const;

  // The absolute value that all entries share; none for dense maps and maps of
  // zeros.
  std::optional<double> shared_magnitude() const;
  // The number that all entries of a row share, for every row of outputs();
  // none if they differ.
  std::optional<std::vector<double>> shared_by_rows() const;
  // Sparse rows whose entries have one absolute value each: that of every row, 1 for an empty one.
  std::optional<std::vector<double>> magnitude_of_rows() const;

  // The same map with integers in the place of `value`.
  Weight with_integers(std::vector<std::int64_t> integers) const;

  // Of sparse rows. visit(column, e): the entry in this column is value[e].
  template <class Visit>
  void for_each_in_row(std::int64_t row, const Visit& visit) const {
    entries.row(row).for_each(
        [&](std::int64_t at, std::int64_t place) { visit(at, static_cast<std::size_t>(place)); });
  }
};

// Makes sparse maps row by row.
class FloatRows {
 public:
  explicit FloatRows(std::int64_t columns) : added_(columns) {}

  // weight: which of a convolution's weights the entry is.
  void add(std::int64_t column, double value, std::int64_t weight = -1);
  void end_row();
  // A row that is row `like`, `by` columns on.
  void repeat_row(std::int64_t like, std::int64_t by);
  std::int64_t rows() const { return static_cast<std::int64_t>(rows_.size()); }
  // Entries of the rows that were added.
  std::int64_t entries() const { return entries_; }
  // Without `weight_of` where no entry has a weight.
  FloatMap finish();

 private:
  struct Number {
    std::int64_t bits, weight;
    friend bool operator==(const Number&, const Number&) = default;
  };
  struct Hash {
    std::size_t operator()(const Number& number) const;
  };

  SparseRows added_;
  std::int64_t added_count_ = 0, entries_ = 0;
  std::vector<ShiftedRow> rows_;  // of those that were added
  FloatMap map_;
  std::unordered_map<Number, std::int64_t, Hash> places_;  // in map_.value
};

}  // namespace torusml
