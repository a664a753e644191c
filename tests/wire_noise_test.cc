// Rounding of whole ciphertexts to few bits: what decryption sees of it, against the formula, under
// fresh keys.
#include "parameters/wire_noise.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "random/test_seed.h"
#include "tfhe/secret_keys.h"
#include "tfhe/wire_words.h"

namespace torusml {
namespace {

constexpr int kKeys = 100, kCiphertexts = 200;

struct Moments {
  double mean = 0, variance = 0;
};

// Of ciphertexts with random words; bits of them are kept.
Moments measure(std::uint32_t polynomial_size, int bits) {
  std::mt19937_64 words(5);
  SecretGenerator random = TestSeed::make(61);
  const TfheParameters p{.glwe_dimension = {1}, .polynomial_size = {polynomial_size}};
  double sum = 0, squares = 0;
  for (int k = 0; k < kKeys; ++k) {
    const SecretKeys keys = SecretKeys::generate(p, random);
    LweBatch batch(p.big_dimension(), kCiphertexts);
    for (Torus& word : std::span<Torus>(batch.words)) word = words();
    const SecretBuffer<Torus> before = decrypt(keys, batch);
    for (std::size_t i = 0; i < batch.count; ++i) round_to_wire(batch.row(i), bits);
    const SecretBuffer<Torus> after = decrypt(keys, batch);
    for (std::size_t i = 0; i < batch.count; ++i) {
      const double error =
          std::ldexp(static_cast<double>(static_cast<std::int64_t>(after[i] - before[i])), -64);
      sum += error;
      squares += error * error;
    }
  }
  constexpr double kCount = double{kKeys} * kCiphertexts;
  return {sum / kCount, squares / kCount};
}

// 20,000 errors, which are Gaussian but for the body's: a standard deviation of 1 % of the
// variance.
TEST(WireRounding, VarianceIsTheFormulas) {
  for (const std::uint32_t size : {256u, 1024u}) {
    for (const int bits : {10, 18, 40}) {
      const double formula = wire_rounding_variance(LweDimension{size}, bits).value;
      const Moments errors = measure(size, bits);
      EXPECT_NEAR(errors.variance / formula, 1, 0.05) << size << " " << bits;
      EXPECT_LT(std::abs(errors.mean), 5 * std::sqrt(formula / (kKeys * kCiphertexts)));
      RecordProperty("measured_over_formula", std::to_string(errors.variance / formula));
    }
  }
}

TEST(WireRounding, SixtyFourBitsBringNoNoise) {
  EXPECT_EQ(wire_rounding_variance(LweDimension{1024}, 64).value, 0);
  EXPECT_EQ(measure(256, 64).variance, 0);
}

}  // namespace
}  // namespace torusml
