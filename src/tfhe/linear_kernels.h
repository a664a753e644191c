// The inner loops of linear.h on one strip of words, compiled for each instruction set like those
// of kernels.h. Internal to this room, its tests and its benchmark.
//
//   const LinearKernels& kernels = current_linear_kernels();
//   AlignedBuffer<Torus> panel(dense_panel_words(matrix.columns));
//   kernels.add_dense(matrix, {x, sums, pitch, words}, panel.data());   // words <= kStripWords
//
// A word times a weight of 32 bits modulo 2^64, without a 64-bit multiplication: the word is split
// into signed halves, high * 2^32 + low; low * weight is summed in 64 bits, of high * weight only
// the lower 32 bits, twice as many in a vector. The strip of all operands is copied to a panel in
// that form once and serves all rows.
#pragma once

#include <cstddef>
#include <cstdint>

#include "tfhe/linear.h"

namespace torusml {

// Words of a strip; a multiple of every instruction set's two vectors.
inline constexpr std::size_t kStripWords = 96;
// Columns of a dense matrix that a panel holds at a time: it stays in the second-level cache.
inline constexpr std::size_t kPanelColumns = 256;

// Of one unit: where the strip begins in its first operand and in its first sum, and the words from
// one ciphertext to the next.
struct Strip {
  const Torus* x;
  Torus* sums;
  std::size_t pitch = 0, words = 0;
};

struct LinearKernels {
  // Weights within 32 bits. `panel`: dense_panel_words or sparse_panel_words of the columns.
  void (*add_dense)(const DenseMatrix& matrix, const Strip& strip, Torus* panel);
  void (*add_sparse)(const SparseMatrix& matrix, const Strip& strip, Torus* panel);
  // sums[j] += factor * x[j], any factor, any number of words.
  void (*add_multiple)(std::int64_t factor, const Torus* x, std::size_t words, Torus* sums);
  const char* target;
};

const LinearKernels& current_linear_kernels();

std::size_t dense_panel_words(std::size_t columns);
std::size_t sparse_panel_words(std::size_t columns);

}  // namespace torusml
