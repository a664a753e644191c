// Integer matrices times batches of ciphertexts: what linear layers are made of. No key is needed.
//
//   LweBatch sums(x.dimension, units * rows);
//   add_product(DenseMatrix{rows, columns, weights}, x, sums);   // x has units * columns rows
//
// Row r of unit u: sums[u * rows + r] += sum over c of weights[r][c] * x[u * columns + c], on all
// words, modulo 2^64. Units are samples, or samples times positions for a layer on the last axis.
//
// Cost: a multiply-add per weight other than zero (dense: per weight) and word, without a copy of
// weights. Weights of at most 32 bits, which is all that quantized networks have, take the fast
// path; a matrix with a wider one takes another, with the same results.
// Thread rule: parallel inside, over units and strips of words, in the current arena; each task
// has scratch of at most product_scratch_bytes.
#pragma once

#include <cstdint>
#include <span>

#include "tfhe/ciphertext.h"
#include "torusml/progress.h"

namespace torusml {

struct DenseMatrix {
  std::size_t rows = 0, columns = 0;
  std::span<const std::int64_t> weights;  // row-major
};

// Rows of shifted patterns: row r has weights[e] in column shift[r] + offset[e], for e from
// pattern_start[p] to pattern_start[p + 1], p = pattern[r].
struct SparseMatrix {
  std::size_t rows = 0, columns = 0;
  std::span<const std::int64_t> pattern_start, offset, weights;
  std::span<const std::uint32_t> pattern;  // by row
  std::span<const std::int64_t> shift;     // by row

  std::size_t first_entry(std::size_t row) const {
    return static_cast<std::size_t>(pattern_start[pattern[row]]);
  }
  std::size_t end_entry(std::size_t row) const {
    return static_cast<std::size_t>(pattern_start[pattern[row] + std::size_t{1}]);
  }
};

// Error wrong_shape when the batches do not have whole units, the same number of both. progress
// counts tasks, of some 2^17 multiply-adds each; what it throws stops the product, and `sums` are
// good for nothing then.
void add_product(const DenseMatrix& matrix, const LweBatch& x, LweBatch& sums,
                 const ProgressCallback& progress = {});
void add_product(const SparseMatrix& matrix, const LweBatch& x, LweBatch& sums,
                 const ProgressCallback& progress = {});
// sums += factor * x
void add_multiple(std::int64_t factor, const LweBatch& x, LweBatch& sums);

// Scratch of one thread in a product with a matrix of `columns` columns, at most.
std::size_t product_scratch_bytes(std::size_t columns);

}  // namespace torusml
