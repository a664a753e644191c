// Roots of unity for the negacyclic transform of one polynomial size.
//
// A real polynomial a of degree < N modulo X^N + 1 is folded to z_j = a_j + i a_{j + N/2}, that is,
// reduced modulo X^(N/2) - i. The transform walks down the tree X^m - w = product over s of
// (X^(m/4) - i^s r), r = w^(1/4), four ways a level (one two-way level first where log2 is odd), to
// the N/2 roots; no separate twist and no bit reversal is needed.
//
// Result s of the last level's block b, the value at the root i^s r_b, is point b % 8 of group
// 4 (b / 8) + s: a transformed polynomial is groups of 8 real parts and 8 imaginary parts.
// Thread rule: immutable. Cost: built once per size and kept.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/memory.h"
#include "tfhe/types.h"

namespace torusml {

inline constexpr std::uint32_t kSmallestPolynomial = 64;
inline constexpr std::uint32_t kLargestPolynomial = 65536;

// Points of a group of a transformed polynomial.
inline constexpr std::size_t kGroupPoints = 8;

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
  std::vector<Level> levels;  // largest blocks first, down to 16
  // Blocks of 4, eight at a time: r, r^2, r^3 as six runs of 8 doubles.
  AlignedBuffer<double> last_level;

  // Monomials at the roots. Exponents of neighbouring roots add up: for b a multiple of the power
  // of two R and b' < R, exponent[b + b'] = exponent[b] + exponent[b'] - exponent[0].
  std::vector<std::uint32_t> exponents;  // by block: r_b = exp(2 pi i exponent / (2 N))
  AlignedBuffer<double> units;           // exp(2 pi i e / (2 N)), re and im, by e < 2 N
  AlignedBuffer<double> steps;           // (r_b / r_0)^e, b < 8: 8 re, 8 im, by e modulo 64
};

// `size` is a power of two in [kSmallestPolynomial, kLargestPolynomial].
const FftPlan& fft_plan(PolynomialSize size);

}  // namespace torusml
