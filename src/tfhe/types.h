// Strong types of the engine, and its parameters. Torus elements are 64-bit words: t / 2^64.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <compare>
#include <cstdint>

namespace torusml {

using Torus = std::uint64_t;

struct LweDimension {
  std::uint32_t value = 0;
  friend auto operator<=>(const LweDimension&, const LweDimension&) = default;
};

struct GlweDimension {
  std::uint32_t value = 0;
  friend auto operator<=>(const GlweDimension&, const GlweDimension&) = default;
};

struct PolynomialSize {
  std::uint32_t value = 0;  // a power of two
  friend auto operator<=>(const PolynomialSize&, const PolynomialSize&) = default;
};

// Variance of a torus element in [0, 1), that is, relative to 2^128 for words.
struct Variance {
  double value = 0;
  friend auto operator<=>(const Variance&, const Variance&) = default;
};

// Gadget decomposition: level_count digits in base 2^base_log2.
struct Gadget {
  std::uint32_t base_log2 = 0, level_count = 0;
  friend bool operator==(const Gadget&, const Gadget&) = default;
};

// One key set. Ciphertexts rest under the big key (dimension k * N); the keyswitch leads to the
// small key.
struct TfheParameters {
  LweDimension small_dimension;
  GlweDimension glwe_dimension;
  PolynomialSize polynomial_size;
  Gadget bootstrap;
  Gadget keyswitch;  // its key is stored on a 32-bit torus
  // Bits of the small key that one step of the blind rotation consumes, 1 or 2; the small dimension
  // is a multiple of it. A step has 2^grouping_factor - 1 GGSW ciphertexts.
  std::uint32_t grouping_factor = 1;
  // Word size of the blind rotation's accumulator, 32 or 64.
  std::uint32_t accumulator_bits = 64;
  Variance small_variance;
  Variance glwe_variance;
  // Circuit bootstrapping, on which wide lookups rest (tfhe/wide_lookup.h): the gadget of the GGSW
  // ciphertexts that it makes, and that of the keys of its trace, with which results are packed,
  // too (tfhe/result_packing.h). No levels: this key set has none. A trace may be there without
  // circuit bootstrapping.
  Gadget circuit_bootstrap;
  Gadget trace;

  // One GGSW ciphertext for each way in which the bits of a step are not all zero.
  std::uint32_t keys_per_step() const { return (1u << grouping_factor) - 1; }
  // Bytes of a word of a bootstrapping key on the wire: the lower ones, five bits below the error's
  // standard deviation and more, are left out.
  std::uint32_t body_bytes() const {
    const double bits = 5 - 0.5 * std::log2(glwe_variance.value);
    return static_cast<std::uint32_t>(std::clamp(std::ceil(bits / 8), 1.0, 8.0));
  }
  LweDimension big_dimension() const { return {glwe_dimension.value * polynomial_size.value}; }
  // A key set without bootstrap: circuits that have no lookup.
  bool has_bootstrap() const { return bootstrap.level_count != 0; }
  bool has_circuit_bootstrap() const { return circuit_bootstrap.level_count != 0; }
  bool has_trace() const { return trace.level_count != 0; }
  friend bool operator==(const TfheParameters&, const TfheParameters&) = default;
};

// Whether both bootstrap ciphertexts under the same big key: its bits do not depend on how they are
// cut into polynomials.
inline bool shares_big_key(const TfheParameters& a, const TfheParameters& b) {
  return a.big_dimension() == b.big_dimension() && a.glwe_variance == b.glwe_variance;
}

// What one blind rotation reads: a table of N * 2^extension_log2 entries, or 2^tables_log2 tables
// of one value side by side, of N / 2^tables_log2 entries each. At most one of the two is not 0:
// several tables in 2^h shards would fall apart into as many rotations of fewer shards, at the same
// cost.
struct RotationShape {
  std::uint32_t extension_log2 = 0, tables_log2 = 0;

  // Entries of one table.
  std::size_t table_size(PolynomialSize size) const {
    return std::size_t{size.value} << extension_log2 >> tables_log2;
  }
  // Rotations that read so many tables of one value.
  std::uint64_t turns(std::uint64_t tables) const {
    return (tables + (std::uint64_t{1} << tables_log2) - 1) >> tables_log2;
  }
  friend bool operator==(const RotationShape&, const RotationShape&) = default;
};

// How a wide lookup is done (tfhe/wide_lookup.h).
struct WideShape {
  std::uint32_t index_bits = 0;         // the table has 2^index_bits entries; 0: no wide lookup
  std::uint32_t bits_per_rotation = 1;  // that one rotation reads
  std::uint32_t digit_bits = 1;
  std::uint32_t digit_count = 1;

  std::uint32_t rotations() const {
    return (index_bits + bits_per_rotation - 1) / bits_per_rotation;
  }
  friend bool operator==(const WideShape&, const WideShape&) = default;
};

inline constexpr std::uint32_t kMostIndexBits = 16, kMostBitsPerRotation = 3, kMostDigitBits = 6;

// Functions that one rotation evaluates side by side, rounded up to a power of two: the bits' GLWE
// for each level of their GGSW, and what is taken from the input.
inline std::uint32_t rotation_stride_log2(std::uint32_t bits, const TfheParameters& p) {
  return static_cast<std::uint32_t>(std::bit_width(bits * p.circuit_bootstrap.level_count));
}

}  // namespace torusml
