// External products on one thread. Internal to this room.
//
//   ExternalProduct product(keys, keys.trace_step, keys.parameters.trace, 1);
//   product.split(0, 0, mask);
//   product.multiply(keys.trace_matrix(key), 1, size);
//   product.add(0, column, words);
#pragma once

#include <cstdint>
#include <vector>

#include "base/memory.h"
#include "tfhe/prepared_keys.h"

namespace torusml {

// External products of GLWE ciphertexts with one matrix: scratch, and the calls in order.
class ExternalProduct {
 public:
  // At most `capacity` ciphertexts at once. Rows are digits of the polynomials that are split.
  ExternalProduct(const EvaluationKeys::State& keys, const StepShape& shape, const Gadget& gadget,
                  std::size_t capacity);

  std::size_t capacity() const { return items_.size(); }
  // Digits of polynomial p of the c-th operand.
  void split(std::size_t c, std::size_t p, const Torus* words);
  void clear(std::size_t c, std::size_t p);  // the digits of zero
  // (X^exponent - 1) times the operands times the matrix, for operands 0 .. count - 1.
  void multiply(const double* matrix, std::size_t count, std::uint32_t exponent);
  // Adds column p of product c; at most once for each.
  void add(std::size_t c, std::size_t p, Torus* words);

 private:
  double* rows(std::size_t c) { return rows_.data() + c * item_doubles_; }

  const Kernels& kernels_;
  const FftPlan& plan_;
  const StepShape shape_;
  const Gadget gadget_;
  const std::size_t row_stride_;  // rows from one level's to the next
  std::size_t item_doubles_;
  AlignedBuffer<double> rows_, scratch_;
  std::vector<StepItem> items_;
};

}  // namespace torusml
