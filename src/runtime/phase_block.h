// A value of several samples, laid out like a batch of ciphertexts: row i holds element i, with one
// word per sample where a ciphertext has its mask and body. The integer map is the same on both, so
// linear layers are the products of tfhe/linear.h.
#pragma once

#include "circuit/circuit.h"
#include "tfhe/ciphertext.h"
#include "torusml/progress.h"

namespace torusml {

using PhaseBlock = LweBatch;

inline PhaseBlock make_block(std::size_t elements, std::size_t lanes) {
  return PhaseBlock(LweDimension{static_cast<std::uint32_t>(lanes - 1)}, elements);
}

// sums += weight * x, modulo 2^64. Parallel inside; progress as in add_product.
void add_term(const Weight& weight, const LweBatch& x, LweBatch& sums,
              const ProgressCallback& progress = {});

}  // namespace torusml
