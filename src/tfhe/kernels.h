// The inner loops of the engine, one generic source compiled for each instruction set and chosen at
// run time. Internal to this room.
//
//   const Kernels& kernels = current_kernels();
//   kernels.forward(fft_plan(size), values, work, transformed);
//
// The instruction set is the machine's best, or the one named by the environment variable
// TORUSML_TARGET (as Highway names them: EMU128, SSE4, AVX2, AVX3, NEON) or by set_target.
// The layout of transformed polynomials does not depend on it.
// Thread rule: kernels are pure; set_target must not run beside other calls.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tfhe/fft_plan.h"

namespace torusml {

inline constexpr std::size_t kMostStepKeys = 3;
inline constexpr std::size_t kMostItems = 16;  // that go through the keys side by side

// One step of the blind rotation consumes a group of key bits. With keys K_j and exponents e_j of
// the group, the phase of an accumulator A becomes A + sum over j of (X^e_j - 1) * m_j * A.
//
// The accumulator is cut into digits and transformed once; rows are its digits, row
// level * columns + polynomial. It is held in 2^h shards, shard i of which has the coefficients
// i, i + 2^h, ... With Y = X^(2^h), X^e for e = 2^h c + r takes shard i to shard i + r, times Y^c,
// or, where that wraps around, Y^(c + 1).
struct StepShape {
  std::size_t keys = 1;       // GGSW ciphertexts of the step, at most kMostStepKeys
  std::size_t rows = 0;       // (k + 1) * levels
  std::size_t columns = 0;    // k + 1
  std::size_t row_pitch = 0;  // doubles from a row to the next
  std::uint32_t shards_log2 = 0;
  std::size_t shard_pitch = 0;  // doubles from a shard's rows to the next shard's

  // Doubles of one step's keys, and of the scratch memory of a step.
  std::size_t matrix_doubles(std::size_t points) const {
    return keys * rows * columns * 2 * points;
  }
  std::size_t scratch_doubles(std::size_t points) const {
    const std::size_t monomials = kMostItems * keys * 2 * (64 + points / 64 + 2);
    return (rows << shards_log2) * 4 * 2 * kGroupPoints + monomials;
  }
};

// One ciphertext's part in a step.
struct StepItem {
  double* rows = nullptr;
  std::uint32_t exponents[kMostStepKeys] = {};  // in [0, 2 N * 2^shards_log2)
};

// Transformed polynomials are in the layout of fft_plan.h. `work` stands for a polynomial between
// levels, in a layout of the kernels' own: 2 * points doubles.
struct Kernels {
  // Forward transform of `values` (N doubles, natural order) to `out`. No aliasing.
  void (*forward)(const FftPlan& plan, const double* values, double* work, double* out);
  // Inverse of forward, without the factor 1/points.
  void (*inverse)(const FftPlan& plan, const double* in, double* work, double* out);
  // Signed digits of a polynomial of words of `word_bits` (32 or 64) bits, level 1 (most
  // significant) first, and all levels of their transforms but the last; the digits of a level go
  // to rows + (level - 1) * pitch.
  void (*split_digits)(const FftPlan& plan, const Gadget& gadget, std::uint32_t word_bits,
                       const void* words, double* rows, std::size_t pitch);
  // For every item: last level of all rows, products with the keys, first inverse level of the
  // sums, which replace the first `columns` rows. Keys come in groups of points:
  // [group][key][row][column][re, im][kGroupPoints].
  void (*multiply_step)(const FftPlan& plan, const StepShape& shape, const double* matrix,
                        std::span<const StepItem> items, double* scratch);
  // The other inverse levels of `work`, which is destroyed; then words[j] += the fraction of
  // value j, as a torus word.
  void (*join_add)(const FftPlan& plan, std::uint32_t word_bits, double* work, void* words);
  // sums[c] -= sum over rows of digits[c][row] * key[row], c < count; rows of `pitch` words, a
  // multiple of 16; digits of ciphertext c start at digits + c * rows.
  void (*subtract_products)(const std::int32_t* digits, std::size_t rows, std::size_t count,
                            const std::uint32_t* key, std::size_t pitch, std::uint32_t* sums);
  const char* target;
};

const Kernels& current_kernels();

// Names of the instruction sets compiled in; those that this machine runs come first, best first.
struct TargetName {
  std::string name;
  bool runnable = false;
};
std::vector<TargetName> compiled_targets();

// Forces an instruction set; an empty name returns to the machine's best. Error unknown_option if
// it is not compiled in, not_supported if this machine lacks it.
void set_target(std::string_view name);

}  // namespace torusml
