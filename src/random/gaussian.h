// Box-Muller transform without rejection, branch or table lookup on the samples (but for Highway's
// SCALAR target, whose functions branch: SECURITY.md).
#pragma once

#include <cstddef>
#include <cstdint>

namespace torusml {

// Turns 2 * pairs uniform words (first `pairs`: radii, then angles) into 2 * pairs Gaussian words
// of standard deviation `sigma` words, rounded to nearest. `pairs` is a multiple of 16. Radii use
// all 64 bits, so tails are right up to the largest sample, 9.49 sigma. |sample| < 2^62 needs sigma
// <= 2^59 words. Results may differ in the last bits of a double between instruction sets.
void uniform_to_gaussian(const std::uint64_t* uniform, std::size_t pairs, double sigma,
                         std::uint64_t* words);

}  // namespace torusml
