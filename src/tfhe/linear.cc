#include "tfhe/linear.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/progress.h"
#include "base/threads.h"
#include "tfhe/linear_kernels.h"
#include "torusml/error.h"

namespace torusml {
namespace {

// Multiply-adds of a task, at least: what it costs to start one is little beside them.
constexpr std::size_t kTaskProducts = std::size_t{1} << 17;

void check_units(std::size_t rows, std::size_t columns, const LweBatch& x, const LweBatch& sums) {
  const bool whole = rows != 0 && columns != 0 && sums.count % rows == 0 && x.count % columns == 0;
  if (!whole || sums.count / rows != x.count / columns || sums.dimension != x.dimension) {
    throw Error(
        ErrorCode::wrong_shape,
        fmt::format("a matrix of {} x {} from {} ciphertexts of dimension {} to {} of "
                    "dimension {}",
                    rows, columns, x.count, x.dimension.value, sums.count, sums.dimension.value),
        "add_product");
  }
}

bool fit_32_bits(std::span<const std::int64_t> weights) {
  return std::ranges::all_of(
      weights, [](std::int64_t weight) { return weight == static_cast<std::int32_t>(weight); });
}

// Calls body(panel, strip) for each strip of each unit; `products` is the number of multiply-adds
// for one word of a unit.
template <class Body>
void for_strips(std::size_t rows, std::size_t columns, std::size_t products,
                std::size_t panel_words, const LweBatch& x, LweBatch& sums,
                const ProgressCallback& progress, const Body& body) {
  const std::size_t pitch = x.dimension.value + std::size_t{1};
  const std::size_t strips = (pitch + kStripWords - 1) / kStripWords;
  const std::size_t total = sums.count / rows * strips;
  const std::size_t of_task = 1 + kTaskProducts / ((products + columns + rows) * kStripWords);
  const std::size_t tasks = (total + of_task - 1) / of_task;
  ProgressCounter counter(progress, tasks);
  parallel_for(tasks, [&](std::size_t task) {
    AlignedBuffer<Torus> panel(panel_words);
    const std::size_t end = std::min(total, (task + 1) * of_task);
    for (std::size_t i = task * of_task; i < end; ++i) {
      const std::size_t unit = i / strips, first = i % strips * kStripWords;
      body(panel.data(), Strip{x.words.data() + unit * columns * pitch + first,
                               sums.words.data() + unit * rows * pitch + first, pitch,
                               std::min(kStripWords, pitch - first)});
    }
    counter.advance();
  });
}

// Any weights, one product at a time.
void add_row(std::span<const std::int64_t> weights, auto&& column_of, const Strip& strip,
             std::size_t row) {
  const LinearKernels& kernels = current_linear_kernels();
  for (std::size_t i = 0; i < weights.size(); ++i) {
    if (weights[i] == 0) continue;
    kernels.add_multiple(weights[i], strip.x + column_of(i) * strip.pitch, strip.words,
                         strip.sums + row * strip.pitch);
  }
}

void add_wide(const DenseMatrix& matrix, const Strip& strip) {
  for (std::size_t row = 0; row < matrix.rows; ++row) {
    add_row(
        matrix.weights.subspan(row * matrix.columns, matrix.columns),
        [](std::size_t i) { return i; }, strip, row);
  }
}

void add_wide(const SparseMatrix& matrix, const Strip& strip) {
  for (std::size_t row = 0; row < matrix.rows; ++row) {
    const std::size_t first = matrix.first_entry(row);
    add_row(
        matrix.weights.subspan(first, matrix.end_entry(row) - first),
        [&](std::size_t i) {
          return static_cast<std::size_t>(matrix.shift[row] + matrix.offset[first + i]);
        },
        strip, row);
  }
}

}  // namespace

void add_product(const DenseMatrix& matrix, const LweBatch& x, LweBatch& sums,
                 const ProgressCallback& progress) {
  check_units(matrix.rows, matrix.columns, x, sums);
  const bool narrow = fit_32_bits(matrix.weights);
  const LinearKernels& kernels = current_linear_kernels();
  for_strips(matrix.rows, matrix.columns, matrix.weights.size(),
             narrow ? dense_panel_words(matrix.columns) : 0, x, sums, progress,
             [&](Torus* panel, const Strip& strip) {
               narrow ? kernels.add_dense(matrix, strip, panel) : add_wide(matrix, strip);
             });
}

void add_product(const SparseMatrix& matrix, const LweBatch& x, LweBatch& sums,
                 const ProgressCallback& progress) {
  check_units(matrix.rows, matrix.columns, x, sums);
  const bool narrow = fit_32_bits(matrix.weights);
  const LinearKernels& kernels = current_linear_kernels();
  std::size_t entries = 0;
  for (std::size_t row = 0; row < matrix.rows; ++row)
    entries += matrix.end_entry(row) - matrix.first_entry(row);
  for_strips(matrix.rows, matrix.columns, entries, narrow ? sparse_panel_words(matrix.columns) : 0,
             x, sums, progress, [&](Torus* panel, const Strip& strip) {
               narrow ? kernels.add_sparse(matrix, strip, panel) : add_wide(matrix, strip);
             });
}

void add_multiple(std::int64_t factor, const LweBatch& x, LweBatch& sums) {
  check_units(1, 1, x, sums);
  if (factor == 0) return;
  const LinearKernels& kernels = current_linear_kernels();
  for_strips(1, 1, 1, 0, x, sums, {}, [&](Torus*, const Strip& strip) {
    kernels.add_multiple(factor, strip.x, strip.words, strip.sums);
  });
}

std::size_t product_scratch_bytes(std::size_t columns) {
  return std::max(dense_panel_words(columns), sparse_panel_words(columns)) * sizeof(Torus);
}

}  // namespace torusml
