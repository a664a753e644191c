// Noise that results take on their way to the client: of packing (tfhe/result_packing.h) and of
// words that are rounded (tfhe/wire_words.h).
#pragma once

#include <optional>

#include "tfhe/types.h"

namespace torusml {

// Of rounding ciphertexts of this dimension to words of so many bits; 0 for 64. The body takes the
// masks' errors times 1/2, the mean of a key bit, so that each counts with the variance of a key
// bit. docs/noise.md has the formula; tests/wire_noise_test.cc compares it with the engine.
Variance wire_rounding_variance(LweDimension dimension, int bits);

// Of packing results with the trace's keys; it does not depend on their number. Where masks have
// zeros in their lowest bits (32-bit accumulators) an upper bound.
Variance result_packing_variance(const TfheParameters& p);

// The gadget of a trace that packs with at most so much noise: of the fewest levels, 2 to 4, and of
// the base with the least noise. nullopt if there is none.
std::optional<Gadget> packing_trace(const TfheParameters& p, Variance limit);
// The least noise that such a trace has.
Variance least_packing_variance(const TfheParameters& p);

}  // namespace torusml
