// What keys and bootstraps take in memory, known from the parameters before anything is allocated.
// Formulas: docs/memory.md. Thread rule: pure functions.
#pragma once

#include <cstdint>

#include "tfhe/types.h"
#include "tfhe/wide_lookup.h"

namespace torusml {

// Of EvaluationKeys::prepare: its result, and what it is given.
std::uint64_t prepared_key_bytes(const TfheParameters& parameters);
std::uint64_t seeded_key_bytes(const TfheParameters& parameters);

// Of `count` ciphertexts under the big key.
std::uint64_t ciphertext_bytes(const TfheParameters& parameters, std::uint64_t count);

// Scratch of bootstrap_batch, at most, with so many rotations of each ciphertext.
std::uint64_t bootstrap_scratch_bytes(const TfheParameters& parameters,
                                      std::uint32_t extension_log2, std::uint64_t count,
                                      int threads, std::uint64_t turns = 1);

// Of a WideTable in polynomials of this size.
std::uint64_t wide_table_bytes(PolynomialSize size, const WideShape& shape);

// Scratch of wide_lookup_batch, at most. The parameters have circuit bootstrapping.
std::uint64_t wide_lookup_scratch_bytes(const TfheParameters& parameters, const WideShape& shape,
                                        std::uint64_t count, int threads);

}  // namespace torusml
