// The inner loops of the engine, one generic source compiled for each instruction set and chosen at
// run time. Internal to this room.
//
//   const Kernels& kernels = current_kernels();
//   kernels.forward(fft_plan(size), work, transformed);
//
// The instruction set is the machine's best, or the one named by the environment variable
// TORUSML_TARGET (as Highway names them: EMU128, SSE4, AVX2, AVX3, NEON) or by set_target.
// The layout of transformed polynomials does not depend on it.
// Thread rule: kernels are pure; set_target must not run beside other calls.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "tfhe/fft_plan.h"

namespace torusml {

// Transformed keys come in groups of this many points, each group contiguous.
inline constexpr std::size_t kGroupPoints = 8;

// Shape of one external product: `rows` transformed digits times a rows x columns matrix.
struct ProductShape {
  std::size_t points = 0, rows = 0, columns = 0;
  std::size_t group_doubles() const { return rows * columns * 2 * kGroupPoints; }
  std::size_t matrix_doubles() const { return points / kGroupPoints * group_doubles(); }
};

// Every complex array of `points` values is `points` real parts, then `points` imaginary parts.
struct Kernels {
  // Forward transform of `work` (natural order, destroyed) to `out` (transformed order). No
  // aliasing.
  void (*forward)(const FftPlan& plan, double* work, double* out);
  // Inverse of forward, without the factor 1/points. `in` is kept.
  void (*inverse)(const FftPlan& plan, const double* in, double* out);
  // The same, then result[j] = addend[j] + the fraction of value j, as torus words (2 * points of
  // them). `work` is scratch; addend may be result.
  void (*inverse_add)(const FftPlan& plan, const double* in, double* work,
                      const std::uint64_t* addend, std::uint64_t* result);
  // Signed digits of X^shift * source - subtrahend, shift in [0, 2N), level 1 (most significant)
  // first, N doubles a level.
  void (*rotated_digits)(std::size_t size, const Gadget& gadget, const std::uint64_t* source,
                         std::size_t shift, const std::uint64_t* subtrahend, double* digits);
  // out[column] = sum over rows of digits[row] * matrix[row][column]; a digit or result has
  // 2 * points doubles. The matrix is in groups: [group][row][column][re, im][kGroupPoints].
  void (*multiply)(const ProductShape& shape, const double* digits, const double* matrix,
                   double* out);
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
