// Noise formulas and security lines. All variances are relative to the torus; docs/noise.md derives
// the formulas with the names used here, docs/security-parameters.md has the lines and their
// source.
//
//   TfheParameters p = ...;
//   const Variance at_table{norm2 * blind_rotation_variance(p).value + keyswitch_variance(p).value
//   +
//                           modulus_switch_variance(p.small_dimension, 2 * table_size).value};
//   const double p_error = tail_probability(half_box / std::sqrt(at_table.value));
//
// Pure functions, any thread, nanoseconds each. Functions of a bootstrap or a keyswitch expect
// parameters that have one.
#pragma once

#include <cstdint>

#include "tfhe/types.h"

namespace torusml {

// Least dimension for which the security lines were fitted.
constexpr std::uint32_t kLeastSecureDimension = 450;

// Least standard deviation (as a variance) at which an LWE or GLWE key of `dimension` binary bits
// reaches the security level, 128 or 132 bits: log2 sigma = max(a * dimension + b, -62).
// Errors: invalid_argument for other levels, no_parameters below kLeastSecureDimension.
Variance minimal_variance(std::uint32_t dimension, int security_bits);

// kappa(p) = sqrt(2) * erfcinv(p): a Gaussian leaves +-kappa sigma with probability p, for p in
// [2^-1000, 1). Error p_error_out_of_range.
double kappa(double p_error);
// 2-sided tail: erfc(sigmas / sqrt 2); 1 for sigmas <= 0.
double tail_probability(double sigmas);

// Formulas in the peer's form (plain rounding, its FFT constant, 64-bit keyswitch); kept to
// reproduce its published figures.
namespace concrete_form {
Variance external_product(const TfheParameters& p);      // without the FFT term
Variance external_product_fft(const TfheParameters& p);  // the FFT term alone
Variance blind_rotation(const TfheParameters& p);
Variance keyswitch(const TfheParameters& p);
Variance modulus_switch(LweDimension n, std::uint64_t modulus);  // modulus = 2 * table size
}  // namespace concrete_form

// Our engine: centred rounding in keyswitch and modulus switch, own blind rotation and FFT
// constant, keyswitch key on a 32-bit torus. These are what the optimizer uses and what tests
// compare with measurements.

// What one step of the blind rotation adds: a step consumes grouping_factor bits of the small key.
struct RotationStepNoise {
  Variance key;       // digits of the accumulator times the errors of the GGSW ciphertexts
  Variance rounding;  // of the accumulator to the gadget's digits
  Variance fft;       // of the transforms in doubles
  Variance words;     // of the accumulator to 32-bit words; 0 for 64-bit accumulators
  // Of what rounding has in common at every step. Over a rotation it comes once, not n / g times,
  // and is left out of total().
  Variance common;
  double total() const { return key.value + rounding.value + fft.value + words.value; }
};
RotationStepNoise rotation_step_noise(const TfheParameters& p);
// n / g steps.
Variance blind_rotation_variance(const TfheParameters& p);
// Covariance of the errors of two results that one rotation reads side by side.
Variance shared_rotation_covariance(const TfheParameters& p);
Variance keyswitch_variance(const TfheParameters& p);
// Of the mask's part alone; the body's own rounding comes on top and is uniform, not Gaussian.
Variance modulus_switch_mask_variance(LweDimension n, std::uint64_t modulus);
Variance modulus_switch_variance(LweDimension n, std::uint64_t modulus);

// What the keyswitch after one automorphism of the trace adds to each coefficient; of wide lookups
// and of results that are packed.
Variance trace_step_variance(const TfheParameters& p);
// Wide lookups (docs/wide-lookups.md derives the formulas). All expect circuit bootstrapping.

// Squared norm of the error of a whole trace: the sum of the variances of its N coefficients.
Variance trace_norm2(const TfheParameters& p);
// What the product with the key of the secret's square adds to each coefficient.
Variance secret_square_variance(const TfheParameters& p);
// Error of a digit that vertical packing picks: gain * (variance of a blind rotation) + floor, for
// addresses whose bits are all one, which is the worst.
struct PackingNoise {
  double gain = 0;
  Variance floor;
};
PackingNoise packing_noise(const TfheParameters& p, const WideShape& shape);

}  // namespace torusml
