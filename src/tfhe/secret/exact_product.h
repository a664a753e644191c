// Products of torus polynomials with binary secret polynomials modulo X^N + 1 and 2^64, exact.
//
//   ExactProduct product(size, key_polynomials);       // transforms the key once
//   product.set_sum({mask_0, .., mask_{k-1}}, out);    // out = sum of mask_r * S_r
//
// Each mask is cut into three signed limbs of 22 bits, which go through the transform in doubles;
// the results are integers that rounding recovers. Why the error stays below 1/2, with n = N/2
// points, u = 2^-53, and L = log2 n levels, each of relative error at most 4.3 u in the 2-norm
// (Higham, Accuracy and Stability, section 24.1, for complex butterflies with rounded roots): a
// product's coefficient is off by at most 3 L * 4.3 u * ||limbs||_2 * ||key||_1 <= 12.9 L u * 2^22
// * n^1.5 for one polynomial (||limbs||_2 <= 2^21 sqrt(2 n), ||key||_1 <= sqrt(2) n), and k times
// that for k. k * N <= 65536 leaves at most 0.24, reached at k = 1 and N = 65536.
//
// Thread rule: const use is concurrent, each thread with its own Scratch. Cost: 3 k + 3 transforms.
#pragma once

#include <cstdint>
#include <span>

#include "base/memory.h"
#include "tfhe/fft_plan.h"

namespace torusml {

class ExactProduct {
 public:
  // key: k polynomials of `size` words, each 0 or 1.
  ExactProduct(PolynomialSize size, std::span<const std::uint64_t> key);

  struct Scratch {
    explicit Scratch(const ExactProduct& product);
    AlignedBuffer<double> limb, work, transformed;  // of public masks
    SecretBuffer<double> sum, secret_work, values;
  };

  // masks: k polynomials, one after the other; out: one polynomial, overwritten.
  void set_sum(std::span<const Torus> masks, std::span<Torus> out, Scratch& scratch) const;

 private:
  void add_product(const double* a, const double* s, double* sum) const;
  void multiply_limb(std::span<const Torus> masks, int limb, Scratch& scratch) const;

  std::size_t size_, count_;
  const FftPlan& plan_;
  SecretBuffer<double> key_;  // transformed
};

}  // namespace torusml
