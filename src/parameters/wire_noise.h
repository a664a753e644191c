// Noise of results whose words are rounded for the wire (tfhe/wire_words.h).
#pragma once

#include "tfhe/types.h"

namespace torusml {

// Of rounding ciphertexts of this dimension to words of so many bits; 0 for 64. The body takes the
// masks' errors times 1/2, the mean of a key bit, so that each counts with the variance of a key
// bit. docs/noise.md has the formula; tests/wire_noise_test.cc compares it with the engine.
Variance wire_rounding_variance(LweDimension dimension, int bits);

}  // namespace torusml
