// Circuit bootstrapping and vertical packing on one thread: from bits under GLWE to GGSW
// ciphertexts of them, and from these to entries of a table. Internal to this room.
//
//   CircuitBootstrap bootstrap(keys);
//   bootstrap.trace(glwes, count);                    // constants, N times what they were
//   bootstrap.make_ggsw(glwes, 1, matrix);            // one GLWE for each level
//   VerticalPacking packing(keys);
//   packing.run(matrices, table, accumulators);
//
// A GLWE ciphertext is 2 N words, mask and body (k = 1). Formulas: docs/wide-lookups.md.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/memory.h"
#include "tfhe/automorphism_keyswitch.h"
#include "tfhe/external_product.h"
#include "tfhe/prepared_keys.h"
#include "tfhe/wide_lookup.h"

namespace torusml {

// Shape of the GGSW ciphertexts that circuit bootstrapping makes.
StepShape ggsw_shape(const TfheParameters& parameters);

class CircuitBootstrap {
 public:
  CircuitBootstrap(const EvaluationKeys::State& keys, std::size_t capacity);

  // Phase -> N times its coefficient 0, a constant; for `count` ciphertexts, one after the other.
  void trace(Torus* glwes, std::size_t count);

  // The GGSW ciphertext of a bit from one ciphertext of bit * q/B^level for each level, scaled by a
  // factor.
  void make_ggsw(const Torus* glwes, double factor, double* matrix);

 private:
  const EvaluationKeys::State& keys_;
  const StepShape ggsw_;
  AutomorphismKeyswitch keyswitch_;
  AlignedBuffer<Torus> row_;  // one ciphertext
};

class VerticalPacking {
 public:
  explicit VerticalPacking(const EvaluationKeys::State& keys);

  // matrices: by index bit, the least significant first; those of log2 N and above, which choose
  // among polynomials, are scaled by kHalfNegated. Gives a ciphertext for each of the table's
  // packed polynomials, digits at WideTable::coefficient.
  void run(std::span<const double* const> matrices, const WideTable& table, Torus* glwes);

 private:
  void choose(std::span<const double* const> matrices, const Torus* leaves, std::size_t count,
              Torus* glwe);

  const EvaluationKeys::State& keys_;
  ExternalProduct product_;
  AlignedBuffer<Torus> difference_, nodes_;
};

}  // namespace torusml
