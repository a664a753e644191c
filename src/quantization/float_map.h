// Linear maps of floats on one flattened sample: what a chain of linear
// operators amounts to.
//
//   FloatMap both = FloatMap::dense(3, 5, w2).after(FloatMap::dense(5, 2, w1));
//   Weight weight = both.with_integers(integers_of(both.value));
//
// Cost: dense products by Eigen; anything else as sparse rows, which are kept
// only where they pay.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "circuit/circuit.h"

namespace torusml {

struct FloatMap {
  enum class Kind {
    dense,     // `blocks` times the same rows x columns matrix, along the diagonal
    diagonal,  // rows == columns, blocks == 1
    sparse,    // compressed rows, blocks == 1
  };
  Kind kind = Kind::dense;
  std::int64_t rows = 0, columns = 0, blocks = 1;
  std::vector<std::int64_t> row_start, column;  // sparse only
  std::vector<double> value;  // row-major; the diagonal; the entries of the sparse rows
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
  // Rows without entries to begin with; add_row() ends one.
  static FloatMap sparse(std::int64_t columns);
  void add_entry(std::int64_t at, double v);
  void add_row();
  // Entries of a row-major matrix, without its zeros where there are many.
  static FloatMap from_matrix(std::int64_t rows, std::int64_t columns,
                              const std::vector<double>& matrix);

  std::int64_t inputs() const { return columns * blocks; }
  std::int64_t outputs() const { return rows * blocks; }

  // x -> this(inner(x)). Error not_supported for products of more than 2^26
  // entries.
  FloatMap after(const FloatMap& inner) const;
  FloatMap plus(const FloatMap& other) const;
  void multiply(double factor);
  // One factor per element of the operand. Not for repeated blocks.
  void scale_columns(const std::vector<double>& factors);
  std::vector<double> apply(const std::vector<double>& x) const;

  // The numbers that the step of the integers is chosen by.
  const std::vector<double>& to_scale() const { return weights.empty() ? value : weights; }

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
};

}  // namespace torusml
