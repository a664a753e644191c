#include "quantization/float_map.h"

#include <fmt/format.h>

#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <map>

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
  FloatMap sparse = FloatMap::sparse(map.inputs());
  const bool is_diagonal = map.kind == FloatMap::Kind::diagonal;
  if (!is_diagonal) check_entries(double(map.rows) * double(map.columns) * double(map.blocks));
  for (std::int64_t row = 0; row < map.outputs(); ++row) {
    const std::int64_t first = is_diagonal ? row : row / map.rows * map.columns;
    for (std::int64_t c = 0; c < (is_diagonal ? 1 : map.columns); ++c) {
      const double v =
          is_diagonal ? map.value[size(row)] : map.value[size(row % map.rows * map.columns + c)];
      if (v != 0) sparse.add_entry(first + c, v);
    }
    sparse.add_row();
  }
  return sparse;
}

// Dense if that is cheaper.
FloatMap settled(FloatMap map) {
  if (map.kind != FloatMap::Kind::sparse) return map;
  const double full = double(map.rows) * double(map.columns);
  if (double(map.value.size()) * kSparsePays < full || map.shared_magnitude()) return map;
  std::vector<double> values(size(map.rows * map.columns), 0.0);
  for (std::int64_t row = 0; row < map.rows; ++row) {
    for (std::int64_t e = map.row_start[size(row)]; e < map.row_start[size(row + 1)]; ++e)
      values[size(row * map.columns + map.column[size(e)])] += map.value[size(e)];
  }
  FloatMap result = FloatMap::dense(map.rows, map.columns, std::move(values));
  result.weights = std::move(map.weights);
  if (map.weight_of.empty()) return result;
  result.weight_count = map.weight_count;
  result.weight_of.assign(result.value.size(), -1);
  for (std::int64_t row = 0; row < map.rows; ++row) {
    for (std::int64_t e = map.row_start[size(row)]; e < map.row_start[size(row + 1)]; ++e)
      result.weight_of[size(row * map.columns + map.column[size(e)])] = map.weight_of[size(e)];
  }
  return result;
}

// Rows from a function that adds entries (column -> value) to a row.
template <class Fill>
FloatMap by_rows(std::int64_t rows, std::int64_t columns, const Fill& fill) {
  FloatMap result = FloatMap::sparse(columns);
  std::map<std::int64_t, double> entries;
  for (std::int64_t row = 0; row < rows; ++row) {
    entries.clear();
    fill(row, entries);
    for (const auto& [column, value] : entries) {
      if (value != 0) result.add_entry(column, value);
    }
    check_entries(static_cast<double>(result.value.size()));
    result.add_row();
  }
  return result;
}

// Every row takes one element, or none.
bool is_selection(const FloatMap& map) {
  if (map.kind == FloatMap::Kind::dense) return false;
  if (!std::ranges::all_of(map.value, [](double v) { return v == 1; })) return false;
  if (map.kind == FloatMap::Kind::diagonal) return true;
  for (std::size_t row = 1; row < map.row_start.size(); ++row) {
    if (map.row_start[row] > map.row_start[row - 1] + 1) return false;
  }
  return true;
}

FloatMap scaled_columns(FloatMap map, const std::vector<double>& factors) {
  for (std::size_t e = 0; e < map.value.size(); ++e) map.value[e] *= factors[size(map.column[e])];
  return map;
}

FloatMap sparse_product(const FloatMap& a, const FloatMap& b) {
  const FloatMap outer = to_sparse(a), inner = to_sparse(b);
  if (b.kind == FloatMap::Kind::diagonal) return scaled_columns(outer, b.value);
  return by_rows(outer.rows, inner.columns, [&](std::int64_t row, auto& entries) {
    for (std::int64_t e = outer.row_start[size(row)]; e < outer.row_start[size(row + 1)]; ++e) {
      const std::int64_t k = outer.column[size(e)];
      for (std::int64_t f = inner.row_start[size(k)]; f < inner.row_start[size(k + 1)]; ++f)
        entries[inner.column[size(f)]] += outer.value[size(e)] * inner.value[size(f)];
    }
  });
}

// Which weight each entry of the product of a convolution with a selection is; empty where an entry
// would be two.
std::vector<std::int64_t> moved_weights(const FloatMap& convolution, const FloatMap& selection,
                                        const FloatMap& product) {
  const FloatMap inner = to_sparse(selection);
  std::vector<std::int64_t> result;
  std::map<std::int64_t, std::int64_t> places;
  for (std::int64_t row = 0; row < convolution.rows; ++row) {
    places.clear();
    for (std::int64_t e = convolution.row_start[size(row)];
         e < convolution.row_start[size(row + 1)]; ++e) {
      const std::int64_t from = convolution.column[size(e)];
      if (inner.row_start[size(from)] == inner.row_start[size(from + 1)]) continue;
      const std::int64_t to = inner.column[size(inner.row_start[size(from)])];
      if (!places.emplace(to, convolution.weight_of[size(e)]).second) return {};
    }
    for (std::int64_t e = product.row_start[size(row)]; e < product.row_start[size(row + 1)]; ++e)
      result.push_back(places.at(product.column[size(e)]));
  }
  return result;
}

FloatMap dense_like(const FloatMap& shape, const Matrix& product) {
  return FloatMap::dense(product.rows(), product.cols(),
                         {product.data(), product.data() + product.size()}, shape.blocks);
}

}  // namespace

FloatMap FloatMap::dense(std::int64_t rows, std::int64_t columns, std::vector<double> value,
                         std::int64_t blocks) {
  return {Kind::dense, rows, columns, blocks, {}, {}, std::move(value), {}, {}};
}

FloatMap FloatMap::diagonal(std::vector<double> value) {
  const auto elements = static_cast<std::int64_t>(value.size());
  return {Kind::diagonal, elements, elements, 1, {}, {}, std::move(value), {}, {}};
}

FloatMap FloatMap::sparse(std::int64_t columns) {
  return {Kind::sparse, 0, columns, 1, {0}, {}, {}, {}, {}};
}

void FloatMap::add_entry(std::int64_t at, double v) {
  column.push_back(at);
  value.push_back(v);
}

void FloatMap::add_row() {
  ++rows;
  row_start.push_back(static_cast<std::int64_t>(column.size()));
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
  FloatMap result = sparse_product(*this, inner);
  result.weights = is_selection(inner) ? weights : std::vector<double>();
  if (kind == Kind::sparse && !weight_of.empty() && result.weight_of.empty() &&
      is_selection(inner)) {
    result.weight_of = moved_weights(*this, inner, result);
    result.weight_count = weight_count;
  }
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
  return settled(by_rows(a.rows, a.columns, [&](std::int64_t row, auto& entries) {
    for (const FloatMap* map : {&a, &b}) {
      for (std::int64_t e = map->row_start[size(row)]; e < map->row_start[size(row + 1)]; ++e)
        entries[map->column[size(e)]] += map->value[size(e)];
    }
  }));
}

void FloatMap::multiply(double factor) {
  for (double& v : value) v *= factor;
  for (double& v : weights) v *= factor;
}

void FloatMap::scale_columns(const std::vector<double>& factors) {
  for (std::size_t e = 0; e < value.size(); ++e) {
    value[e] *= factors[kind == Kind::sparse ? size(column[e]) : e % factors.size()];
    if (!weights.empty() && !weight_of.empty() && weight_of[e] >= 0)
      weights[size(weight_of[e])] = value[e];
  }
}

std::vector<double> FloatMap::apply(const std::vector<double>& x) const {
  std::vector<double> y(size(outputs()), 0.0);
  if (kind == Kind::diagonal) {
    for (std::size_t i = 0; i < y.size(); ++i) y[i] = value[i] * x[i];
  } else if (kind == Kind::dense) {
    Eigen::Map<Matrix>(y.data(), blocks, rows).noalias() =
        MatrixView(x.data(), blocks, columns) * matrix_of(*this).transpose();
  } else {
    for (std::int64_t row = 0; row < rows; ++row) {
      for (std::int64_t e = row_start[size(row)]; e < row_start[size(row + 1)]; ++e)
        y[size(row)] += value[size(e)] * x[size(column[size(e)])];
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
  std::vector<double> result(size(outputs()), 0.0);
  for (std::int64_t row = 0; row < outputs(); ++row) {
    const std::int64_t local = row % rows;
    const std::int64_t first = kind == Kind::dense ? local * columns : row_start[size(row)];
    const std::int64_t last = kind == Kind::dense ? first + columns : row_start[size(row + 1)];
    if (first == last) continue;
    result[size(row)] = value[size(first)];
    for (std::int64_t e = first; e < last; ++e) {
      if (value[size(e)] != value[size(first)]) return std::nullopt;
    }
  }
  return result;
}

std::optional<std::vector<double>> FloatMap::magnitude_of_rows() const {
  if (kind != Kind::sparse) return std::nullopt;
  std::vector<double> result(size(rows), 1.0);
  for (std::int64_t row = 0; row < rows; ++row) {
    const std::int64_t first = row_start[size(row)], last = row_start[size(row + 1)];
    if (first == last) continue;
    double& magnitude = result[size(row)] = std::abs(value[size(first)]);
    for (std::int64_t e = first; e < last; ++e) {
      if (std::abs(value[size(e)]) != magnitude || magnitude == 0) return std::nullopt;
    }
  }
  return result;
}

Weight FloatMap::with_integers(std::vector<std::int64_t> integers) const {
  if (kind == Kind::dense) return DenseWeight{rows, columns, std::move(integers)};
  if (kind == Kind::diagonal &&
      std::ranges::all_of(integers, [&](std::int64_t v) { return v == integers[0]; })) {
    return ScaleWeight{integers[0]};
  }
  SparseRows weight(columns);
  for (std::int64_t row = 0; row < rows; ++row) {
    const std::int64_t first = kind == Kind::diagonal ? row : row_start[size(row)];
    const std::int64_t last = kind == Kind::diagonal ? row + 1 : row_start[size(row + 1)];
    for (std::int64_t e = first; e < last; ++e) {
      if (integers[size(e)] == 0) continue;
      weight.add(kind == Kind::diagonal ? row : column[size(e)], integers[size(e)]);
    }
    weight.end_row();
  }
  return weight.finish();
}

}  // namespace torusml
