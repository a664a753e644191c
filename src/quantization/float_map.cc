#include "quantization/float_map.h"

#include <fmt/format.h>

#include <Eigen/Core>
#include <algorithm>
#include <bit>
#include <cmath>
#include <map>
#include <utility>

#include "torusml/error.h"

namespace torusml {
namespace {

using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using MatrixView = Eigen::Map<const Matrix>;

constexpr std::int64_t kMaxEntries = std::int64_t{1} << 26;
// Sparse rows cost about four times as much an entry as a dense matrix.
constexpr std::int64_t kSparsePays = 4;

std::size_t size(std::int64_t n) { return static_cast<std::size_t>(n); }

void check_entries(double entries) {
  if (entries <= static_cast<double>(kMaxEntries)) return;
  throw Error(ErrorCode::not_supported,
              fmt::format("a linear map of {:.0f} entries (at most 2^26)", entries), "",
              "smaller layers, or a non-linear function between the linear ones");
}

bool repeats(const std::vector<double>& values, std::int64_t period) {
  for (std::size_t i = size(period); i < values.size(); ++i) {
    if (values[i] != values[i - size(period)]) return false;
  }
  return true;
}

MatrixView matrix_of(const FloatMap& map) { return {map.value.data(), map.rows, map.columns}; }

FloatMap to_sparse(const FloatMap& map) {
  if (map.kind == FloatMap::Kind::sparse) return map;
  FloatRows sparse(map.inputs());
  const bool is_diagonal = map.kind == FloatMap::Kind::diagonal;
  if (!is_diagonal) check_entries(double(map.rows) * double(map.columns));
  for (std::int64_t row = 0; row < map.outputs(); ++row) {
    const std::int64_t block = is_diagonal ? 0 : row / map.rows;
    if (block > 0) {
      sparse.repeat_row(row % map.rows, block * map.columns);
      continue;
    }
    for (std::int64_t c = 0; c < (is_diagonal ? 1 : map.columns); ++c) {
      const double v = map.value[size(is_diagonal ? row : row * map.columns + c)];
      if (v != 0) sparse.add(is_diagonal ? row : c, v);
    }
    sparse.end_row();
  }
  return sparse.finish();
}

// Dense if that is cheaper.
FloatMap settled(FloatMap map) {
  if (map.kind != FloatMap::Kind::sparse) return map;
  const double full = double(map.rows) * double(map.columns);
  if (double(map.entries.entries()) * kSparsePays < full || map.shared_magnitude()) return map;
  FloatMap result = FloatMap::dense(map.rows, map.columns,
                                    std::vector<double>(size(map.rows * map.columns), 0.0));
  result.weights = std::move(map.weights);
  result.weight_count = map.weight_count;
  if (!map.weight_of.empty()) result.weight_of.assign(result.value.size(), -1);
  for (std::int64_t row = 0; row < map.rows; ++row) {
    map.for_each_in_row(row, [&](std::int64_t column, std::size_t e) {
      const std::size_t at = size(row * map.columns + column);
      result.value[at] += map.value[e];
      if (!map.weight_of.empty()) result.weight_of[at] = map.weight_of[e];
    });
  }
  return result;
}

struct Entry {
  double value = 0;
  std::int64_t weight = -1;
};
using Entries = std::map<std::int64_t, Entry>;  // by column

// Rows from a function that adds entries to a row, once for all rows that have the same key but for
// a shift: add_key(row, keys) adds what tells rows apart.
template <class Key, class Fill>
FloatMap by_rows(std::int64_t rows, std::int64_t columns, const Key& add_key, const Fill& fill) {
  SparseRows key_rows(columns);
  for (std::int64_t row = 0; row < rows; ++row) {
    add_key(row, key_rows);
    key_rows.end_row();
  }
  const SparseWeight keys = key_rows.finish();
  FloatRows result(columns);
  std::vector<std::int64_t> first(keys.patterns(), -1);  // row of each key
  for (std::int64_t row = 0; row < rows; ++row) {
    std::int64_t& like = first[keys.pattern[size(row)]];
    if (like >= 0) {
      result.repeat_row(like, keys.shift[size(row)] - keys.shift[size(like)]);
      continue;
    }
    like = row;
    Entries entries;
    fill(row, entries);
    for (const auto& [column, entry] : entries) {
      if (entry.value != 0) result.add(column, entry.value, entry.weight);
    }
    check_entries(static_cast<double>(result.entries()));
    result.end_row();
  }
  return result.finish();
}

// A row of `map` as a part of a key. `tag` tells parts apart.
void add_row_key(const FloatMap& map, std::int64_t row, std::size_t tag, SparseRows& keys) {
  const std::uint32_t pattern = map.entries.pattern[size(row)];
  if (map.entries.pattern_size(pattern) > 0)
    keys.add(map.entries.shift[size(row)], static_cast<std::int64_t>(tag) << 32 | pattern);
}

// The rows of `distinct`, shifted.
SparseWeight shifted(SparseWeight distinct, const std::vector<ShiftedRow>& rows) {
  SparseWeight result = std::move(distinct);
  const std::vector<std::uint32_t> pattern = std::exchange(result.pattern, {});
  const std::vector<std::int64_t> shift = std::exchange(result.shift, {});
  result.rows = static_cast<std::int64_t>(rows.size());
  for (const ShiftedRow& row : rows) {
    const std::uint32_t p = pattern[size(row.like)];
    result.pattern.push_back(p);
    result.shift.push_back(result.pattern_size(p) == 0 ? 0 : shift[size(row.like)] + row.by);
  }
  return result;
}

// Every row takes one element, or none.
bool is_selection(const FloatMap& map) {
  if (map.kind == FloatMap::Kind::dense) return false;
  if (!std::ranges::all_of(map.value, [](double v) { return v == 1; })) return false;
  for (std::size_t p = 0; p < map.entries.patterns(); ++p) {
    if (map.entries.pattern_size(p) > 1) return false;
  }
  return true;
}

FloatMap scaled_columns(FloatMap map, const std::vector<double>& factors) {
  if (std::ranges::all_of(factors, [](double f) { return f == 1; })) return map;
  FloatRows rows(map.columns);
  for (std::int64_t row = 0; row < map.rows; ++row) {
    map.for_each_in_row(row, [&](std::int64_t column, std::size_t e) {
      rows.add(column, map.value[e] * factors[size(column)],
               map.weight_of.empty() ? -1 : map.weight_of[e]);
    });
    check_entries(static_cast<double>(rows.entries()));
    rows.end_row();
  }
  FloatMap result = rows.finish();
  result.weights = std::move(map.weights);
  result.weight_count = map.weight_count;
  return result;
}

// `keeps_weights`: entries of the product say which weight of `a` they are; none does where two
// weights meet in one entry.
FloatMap sparse_product(const FloatMap& a, const FloatMap& b, bool keeps_weights) {
  const FloatMap outer = to_sparse(a), inner = to_sparse(b);
  if (b.kind == FloatMap::Kind::diagonal) return scaled_columns(outer, b.value);
  bool is_tied = keeps_weights;
  FloatMap result = by_rows(
      outer.rows, inner.columns,
      [&](std::int64_t row, SparseRows& keys) {
        outer.for_each_in_row(
            row, [&](std::int64_t column, std::size_t e) { add_row_key(inner, column, e, keys); });
      },
      [&](std::int64_t row, Entries& entries) {
        outer.for_each_in_row(row, [&](std::int64_t k, std::size_t e) {
          inner.for_each_in_row(k, [&](std::int64_t column, std::size_t f) {
            const auto [at, is_new] = entries.try_emplace(column);
            at->second.value += outer.value[e] * inner.value[f];
            if (keeps_weights) at->second.weight = outer.weight_of[e];
            is_tied &= is_new;
          });
        });
      });
  if (is_tied)
    result.weight_count = outer.weight_count;
  else
    result.weight_of.clear();
  return result;
}

// The number that all entries of each pattern share (as `of` gives it), `empty` where there are
// none; nothing if they differ.
template <class Of>
std::optional<std::vector<double>> shared_by_patterns(const FloatMap& map, double empty,
                                                      const Of& of) {
  const SparseWeight& entries = map.entries;
  const auto value_of = [&](std::size_t entry) {
    return of(map.value[size(entries.value[entry])]);
  };
  std::vector<double> result(entries.patterns(), empty);
  for (std::size_t p = 0; p < result.size(); ++p) {
    const auto first = size(entries.pattern_start[p]);
    for (std::size_t e = first; e < first + entries.pattern_size(p); ++e) {
      if (value_of(e) != value_of(first)) return std::nullopt;
      result[p] = value_of(first);
    }
  }
  return result;
}

std::vector<double> by_row(const FloatMap& map, const std::vector<double>& by_pattern) {
  std::vector<double> result;
  result.reserve(map.entries.pattern.size());
  for (const std::uint32_t p : map.entries.pattern) result.push_back(by_pattern[p]);
  return result;
}

FloatMap dense_like(const FloatMap& shape, const Matrix& product) {
  return FloatMap::dense(product.rows(), product.cols(),
                         {product.data(), product.data() + product.size()}, shape.blocks);
}

}  // namespace

std::size_t FloatRows::Hash::operator()(const Number& number) const {
  const auto bits = static_cast<std::uint64_t>(number.bits);
  const auto hash = (bits ^ (bits >> 32) ^ static_cast<std::uint64_t>(number.weight) << 20) *
                    0x9e3779b97f4a7c15ULL;
  return static_cast<std::size_t>(hash ^ (hash >> 32));
}

void FloatRows::add(std::int64_t column, double value, std::int64_t weight) {
  const Number number{std::bit_cast<std::int64_t>(value), weight};
  const auto [place, is_new] =
      places_.try_emplace(number, static_cast<std::int64_t>(map_.value.size()));
  if (is_new) {
    map_.value.push_back(value);
    map_.weight_of.push_back(weight);
  }
  added_.add(column, place->second);
  ++entries_;
}

void FloatRows::end_row() {
  added_.end_row();
  rows_.push_back({added_count_++, 0});
}

void FloatRows::repeat_row(std::int64_t like, std::int64_t by) {
  const ShiftedRow& row = rows_[size(like)];
  rows_.push_back({row.like, row.by + by});
}

FloatMap FloatRows::finish() {
  map_.kind = FloatMap::Kind::sparse;
  map_.entries = shifted(added_.finish(), rows_);
  map_.rows = map_.entries.rows;
  map_.columns = map_.entries.columns;
  if (std::ranges::all_of(map_.weight_of, [](std::int64_t w) { return w < 0; }))
    map_.weight_of.clear();
  return std::move(map_);
}

FloatMap FloatMap::dense(std::int64_t rows, std::int64_t columns, std::vector<double> value,
                         std::int64_t blocks) {
  return {Kind::dense, rows, columns, blocks, {}, std::move(value), {}, {}};
}

FloatMap FloatMap::diagonal(std::vector<double> value) {
  const auto elements = static_cast<std::int64_t>(value.size());
  return {Kind::diagonal, elements, elements, 1, {}, std::move(value), {}, {}};
}

FloatMap FloatMap::identity(std::int64_t elements) {
  return diagonal(std::vector<double>(size(elements), 1.0));
}

FloatMap FloatMap::from_matrix(std::int64_t rows, std::int64_t columns,
                               const std::vector<double>& matrix) {
  return settled(to_sparse(dense(rows, columns, matrix)));
}

FloatMap FloatMap::after(const FloatMap& inner) const {
  if (kind == Kind::diagonal && inner.kind == Kind::diagonal) {
    FloatMap result = inner;
    for (std::size_t i = 0; i < value.size(); ++i) result.value[i] *= value[i];
    return result;
  }
  if (kind == Kind::diagonal && inner.kind == Kind::dense && repeats(value, inner.rows)) {
    const Eigen::Map<const Eigen::VectorXd> factors(value.data(), inner.rows);
    return dense_like(inner, factors.asDiagonal() * matrix_of(inner));
  }
  if (kind == Kind::dense && inner.kind == Kind::diagonal && repeats(inner.value, columns)) {
    const Eigen::Map<const Eigen::VectorXd> factors(inner.value.data(), columns);
    return dense_like(*this, matrix_of(*this) * factors.asDiagonal());
  }
  if (kind == Kind::dense && inner.kind == Kind::dense && blocks == inner.blocks) {
    check_entries(double(rows) * double(inner.columns));
    return dense_like(*this, matrix_of(*this) * matrix_of(inner));
  }
  const bool moves = is_selection(inner);
  FloatMap result =
      sparse_product(*this, inner, moves && kind == Kind::sparse && !weight_of.empty());
  result.weights = moves ? weights : std::vector<double>();
  return settled(std::move(result));
}

FloatMap FloatMap::plus(const FloatMap& other) const {
  const bool same = kind == other.kind && rows == other.rows && blocks == other.blocks;
  if (same && kind != Kind::sparse) {
    FloatMap result = *this;
    result.weights.clear();
    result.weight_of.clear();
    for (std::size_t i = 0; i < value.size(); ++i) result.value[i] += other.value[i];
    return result;
  }
  const FloatMap a = to_sparse(*this), b = to_sparse(other);
  return settled(by_rows(
      a.rows, a.columns,
      [&](std::int64_t row, SparseRows& keys) {
        add_row_key(a, row, 0, keys);
        add_row_key(b, row, 1, keys);
      },
      [&](std::int64_t row, Entries& entries) {
        for (const FloatMap* map : {&a, &b}) {
          map->for_each_in_row(row, [&](std::int64_t column, std::size_t e) {
            entries[column].value += map->value[e];
          });
        }
      }));
}

void FloatMap::multiply(double factor) {
  for (double& v : value) v *= factor;
  for (double& v : weights) v *= factor;
}

void FloatMap::scale_columns(const std::vector<double>& factors) {
  if (kind == Kind::sparse) {
    *this = scaled_columns(std::move(*this), factors);
  } else {
    for (std::size_t e = 0; e < value.size(); ++e) value[e] *= factors[e % factors.size()];
  }
  for (std::size_t e = 0; !weights.empty() && e < weight_of.size(); ++e) {
    if (weight_of[e] >= 0) weights[size(weight_of[e])] = value[e];
  }
}

std::vector<std::int64_t> FloatMap::counts_to_scale() const {
  if (kind != Kind::sparse || !weights.empty()) return {};
  std::vector<std::int64_t> of_pattern(entries.patterns(), 0), counts(value.size(), 0);
  for (const std::uint32_t p : entries.pattern) ++of_pattern[p];
  for (std::size_t p = 0; p < of_pattern.size(); ++p) {
    const auto first = size(entries.pattern_start[p]);
    for (std::size_t e = first; e < first + entries.pattern_size(p); ++e)
      counts[size(entries.value[e])] += of_pattern[p];
  }
  return counts;
}

std::vector<double> FloatMap::apply(const std::vector<double>& x) const {
  std::vector<double> y(size(outputs()), 0.0);
  if (kind == Kind::diagonal) {
    for (std::size_t i = 0; i < y.size(); ++i) y[i] = value[i] * x[i];
  } else if (kind == Kind::dense) {
    Eigen::Map<Matrix>(y.data(), blocks, rows).noalias() =
        MatrixView(x.data(), blocks, columns) * matrix_of(*this).transpose();
  } else {
    if (std::ranges::all_of(x, [](double v) { return v == 0; })) return y;
    for (std::int64_t row = 0; row < rows; ++row) {
      for_each_in_row(
          row, [&](std::int64_t at, std::size_t e) { y[size(row)] += value[e] * x[size(at)]; });
    }
  }
  return y;
}

std::optional<double> FloatMap::shared_magnitude() const {
  if (kind == Kind::dense || value.empty() || value[0] == 0) return std::nullopt;
  const double magnitude = std::abs(value[0]);
  const bool same = std::ranges::all_of(value, [&](double v) { return std::abs(v) == magnitude; });
  return same ? std::optional(magnitude) : std::nullopt;
}

std::optional<std::vector<double>> FloatMap::shared_by_rows() const {
  if (kind == Kind::diagonal) return value;
  if (kind == Kind::sparse) {
    const auto shared = shared_by_patterns(*this, 0, [](double v) { return v; });
    return shared ? std::optional(by_row(*this, *shared)) : std::nullopt;
  }
  std::vector<double> result;
  for (std::int64_t row = 0; row < outputs(); ++row) {
    const auto first = value.begin() + row % rows * columns;
    if (!std::all_of(first, first + columns, [&](double v) { return v == *first; }))
      return std::nullopt;
    result.push_back(*first);
  }
  return result;
}

std::optional<std::vector<double>> FloatMap::magnitude_of_rows() const {
  if (kind != Kind::sparse) return std::nullopt;
  const auto shared = shared_by_patterns(*this, 1, [](double v) { return std::abs(v); });
  if (!shared || std::ranges::find(*shared, 0.0) != shared->end()) return std::nullopt;
  return by_row(*this, *shared);
}

Weight FloatMap::with_integers(std::vector<std::int64_t> integers) const {
  if (kind == Kind::dense) return DenseWeight{rows, columns, std::move(integers)};
  if (kind == Kind::diagonal &&
      std::ranges::all_of(integers, [&](std::int64_t v) { return v == integers[0]; })) {
    return ScaleWeight{integers[0]};
  }
  SparseRows weight(columns);
  if (kind == Kind::diagonal) {
    for (std::int64_t row = 0; row < rows; ++row) {
      if (integers[size(row)] != 0) weight.add(row, integers[size(row)]);
      weight.end_row();
    }
    return weight.finish();
  }
  std::vector<std::int64_t> first(entries.patterns(), -1);  // row of each pattern
  std::vector<std::int64_t> place(entries.patterns());      // of it among those that are made
  std::vector<ShiftedRow> all;
  std::int64_t made = 0;
  for (std::int64_t row = 0; row < rows; ++row) {
    const std::uint32_t p = entries.pattern[size(row)];
    if (first[p] < 0) {
      first[p] = row;
      place[p] = made++;
      for_each_in_row(row, [&](std::int64_t at, std::size_t e) {
        if (integers[e] != 0) weight.add(at, integers[e]);
      });
      weight.end_row();
    }
    all.push_back({place[p], entries.shift[size(row)] - entries.shift[size(first[p])]});
  }
  return shifted(weight.finish(), all);
}

}  // namespace torusml
