// Roots of unity for the negacyclic transform of one polynomial size.
//
// A real polynomial a of degree < N modulo X^N + 1 is folded to z_j = a_j + i a_{j + N/2}, that is,
// reduced modulo X^(N/2) - i. The transform walks down the tree X^m - w = product over s of
// (X^(m/4) - i^s r), r = w^(1/4), four ways a level (one two-way level first where log2 is odd), to
// the N/2 roots; no separate twist and no bit reversal is needed.
// Thread rule: immutable. Cost: built once per size and kept.
#pragma once

#include <cstddef>
#include <vector>

#include "base/memory.h"
#include "tfhe/types.h"

namespace torusml {

inline constexpr std::uint32_t kSmallestPolynomial = 32;
inline constexpr std::uint32_t kLargestPolynomial = 65536;

struct FftPlan {
  // A level whose blocks have `block` points. Blocks are `points / block` in number; each has the
  // twiddles r, r^2, r^3 as six doubles (re, im, re, im, re, im).
  struct Level {
    std::size_t block = 0;
    AlignedBuffer<double> twiddles;
  };

  std::size_t points = 0;
  bool has_head = false;  // the two-way level
  double head_re = 0, head_im = 0;
  std::vector<Level> levels;         // largest blocks first, down to 16
  AlignedBuffer<double> last_level;  // blocks of 4: six arrays of points / 4
};

// `size` is a power of two in [kSmallestPolynomial, kLargestPolynomial].
const FftPlan& fft_plan(PolynomialSize size);

}  // namespace torusml
