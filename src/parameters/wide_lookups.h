// When a wide lookup is right, and what a key set for it must satisfy. docs/wide-lookups.md.
// Pure functions.
#pragma once

#include <cstdint>
#include <vector>

#include "parameters/search.h"
#include "tfhe/types.h"

namespace torusml {

// One rotation is faster for lookups of fewer bits.
constexpr int kLeastWideBits = 7;
constexpr std::uint32_t kMostResultBits = 48;

// Shapes worth a trial for a constraint that allows wide lookups.
std::vector<WideShape> wide_shapes(const NoiseConstraint& c);

// One bootstrap of a wide lookup. Its phase, times 2^scale_log2 where it reads the value's bits,
// must stay within half_box.
struct WideEvent {
  bool reads_digit = false;      // of an entry; otherwise bits of the value
  std::uint32_t scale_log2 = 0;  // of the input's phase
  std::uint32_t rotations = 0;   // whose results were taken from the input before
  double half_box = 0;           // torus
  std::uint64_t modulus = 0;     // of the modulus switch
};
std::vector<WideEvent> wide_events(const TfheParameters& p, const WideShape& shape);

// Noise at the first rotation in units of the input's phase, like a plain lookup's.
Variance wide_input_noise(const TfheParameters& p, const WideShape& shape, double input_variance);

// Probability that any of the events goes wrong.
double wide_failure(const TfheParameters& p, const WideShape& shape, double input_variance);

// What a constraint of one exact lookup allows: the p_error behind its limit.
double allowed_failure(const NoiseConstraint& c);

// The gadgets of circuit bootstrapping worth a trial: a set of parameters with these alone.
std::vector<TfheParameters> circuit_bootstrap_options();

// Constraints on the rest of a key set that has p's polynomial size and gadgets of circuit
// bootstrapping, in place of `c`, for a wide lookup of this shape. Empty: impossible.
std::vector<NoiseConstraint> wide_constraints(const NoiseConstraint& c, const TfheParameters& p,
                                              const WideShape& shape);

}  // namespace torusml
