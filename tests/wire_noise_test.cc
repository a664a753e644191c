// Rounding of whole ciphertexts to few bits, and packing: what decryption sees of them, against the
// formulas, under fresh keys.
#include "parameters/wire_noise.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "noise_measure.h"
#include "parameters/noise.h"
#include "random/test_seed.h"
#include "tfhe/result_packing.h"
#include "tfhe/secret_keys.h"
#include "tfhe/wire_words.h"

namespace torusml {
namespace {

constexpr int kKeys = 100, kCiphertexts = 200;

struct Moments {
  double mean = 0, variance = 0;
};

// Errors that `change` makes in the phases of ciphertexts with random words.
template <class Batch, class Change>
Moments measure(std::uint32_t polynomial_size, const Change& change) {
  std::mt19937_64 words(5);
  SecretGenerator random = TestSeed::make(61);
  const TfheParameters p{.glwe_dimension = {1}, .polynomial_size = {polynomial_size}};
  double sum = 0, squares = 0;
  for (int k = 0; k < kKeys; ++k) {
    const SecretKeys keys = SecretKeys::generate(p, random);
    Batch batch(p.big_dimension(), kCiphertexts);
    for (Torus& word : std::span<Torus>(batch.words)) word = words();
    const SecretBuffer<Torus> before = decrypt(keys, batch);
    change(batch);
    const SecretBuffer<Torus> after = decrypt(keys, batch);
    for (std::size_t i = 0; i < batch.count; ++i) {
      const double error = centred(after[i] - before[i]);
      sum += error;
      squares += error * error;
    }
  }
  constexpr double kCount = double{kKeys} * kCiphertexts;
  return {sum / kCount, squares / kCount};
}

Moments measure_rounding(std::uint32_t polynomial_size, int bits) {
  return measure<LweBatch>(polynomial_size, [&](LweBatch& batch) {
    for (std::size_t i = 0; i < batch.count; ++i) round_to_wire(batch.row(i), bits);
  });
}

// All results lie in one ciphertext.
Moments measure_packed_rounding(std::uint32_t polynomial_size, int bits) {
  return measure<PackedResults>(polynomial_size, [&](PackedResults& results) {
    round_packed_to_wire(results.mask(0), results.bodies(0), results.stride_of(0), bits);
  });
}

// 20,000 errors, which are Gaussian but for the body's: a standard deviation of 1 % of the
// variance.
TEST(WireRounding, VarianceIsTheFormulas) {
  for (const std::uint32_t size : {256u, 1024u}) {
    for (const int bits : {10, 18, 40}) {
      const double formula = wire_rounding_variance(LweDimension{size}, bits).value;
      const Moments errors = measure_rounding(size, bits);
      EXPECT_NEAR(errors.variance / formula, 1, 0.05) << size << " " << bits;
      EXPECT_LT(std::abs(errors.mean), 5 * std::sqrt(formula / (kKeys * kCiphertexts)));
      RecordProperty("measured_over_formula", std::to_string(errors.variance / formula));
    }
  }
}

TEST(WireRounding, SixtyFourBitsBringNoNoise) {
  EXPECT_EQ(wire_rounding_variance(LweDimension{1024}, 64).value, 0);
  EXPECT_EQ(measure_rounding(256, 64).variance, 0);
  EXPECT_EQ(measure_packed_rounding(256, 64).variance, 0);
}

// The same for packed results. Those of one ciphertext have errors of one mask, so that there are
// fewer independent ones.
TEST(WireRounding, VarianceOfPackedResultsIsTheFormulas) {
  for (const std::uint32_t size : {256u, 1024u}) {
    for (const int bits : {10, 18, 40}) {
      const double formula = wire_rounding_variance(LweDimension{size}, bits).value;
      const Moments errors = measure_packed_rounding(size, bits);
      EXPECT_NEAR(errors.variance / formula, 1, 0.05) << size << " " << bits;
      RecordProperty("measured_over_formula", std::to_string(errors.variance / formula));
    }
  }
}

struct PackingCase {
  std::uint32_t polynomial_size;
  Variance glwe_variance;
  Gadget trace;
  std::size_t results;  // in a ciphertext
  int keys;
};

PackingCase secure(std::uint32_t polynomial_size, Gadget trace, int keys) {
  return {polynomial_size, minimal_variance(polynomial_size, 128), trace, polynomial_size, keys};
}

TfheParameters parameters_of(const PackingCase& c) {
  return {.small_dimension = {20},
          .glwe_dimension = {1},
          .polynomial_size = {c.polynomial_size},
          .bootstrap = {15, 2},
          .keyswitch = {2, 6},
          .small_variance = minimal_variance(kLeastSecureDimension, 128),
          .glwe_variance = c.glwe_variance,
          .trace = c.trace};
}

// At least N results under each of some keys.
double packing_over_formula(const PackingCase& c) {
  const TfheParameters p = parameters_of(c);
  std::mt19937_64 words(7);
  SecretGenerator random = TestSeed::make(62);
  double squares = 0, count = 0;
  for (int k = 0; k < c.keys; ++k) {
    const SecretKeys keys = SecretKeys::generate(p, random);
    const EvaluationKeys evaluation = EvaluationKeys::prepare(make_evaluation_keys(keys, random));
    for (std::size_t done = 0; done < c.polynomial_size; done += c.results) {
      LweBatch batch(p.big_dimension(), c.results);
      for (Torus& word : std::span<Torus>(batch.words)) word = words();
      const SecretBuffer<Torus> before = decrypt(keys, batch);
      const SecretBuffer<Torus> after = decrypt(keys, pack_results(evaluation, batch, kWordBits));
      for (std::size_t i = 0; i < batch.count; ++i)
        squares += centred(after[i] - before[i]) * centred(after[i] - before[i]);
      count += static_cast<double>(batch.count);
    }
  }
  return squares / count / result_packing_variance(p).value;
}

// Rounding to the gadget outweighs, then the keys' errors, by 2^8 and more. Three quarters of the
// variance are of merges of two results, so that about half of the errors are independent: 2 %.
TEST(ResultPacking, VarianceIsTheFormulas) {
  for (const PackingCase& c :
       {PackingCase{256, {0x1p-124}, {8, 3}, 256, 40}, PackingCase{256, {0x1p-124}, {8, 3}, 3, 40},
        PackingCase{256, {0x1p-60}, {8, 5}, 256, 40}, PackingCase{256, {0x1p-60}, {8, 5}, 5, 40}}) {
    const double ratio = packing_over_formula(c);
    RecordProperty("measured_over_formula", std::to_string(ratio));
    EXPECT_NEAR(ratio, 1, 0.05) << c.trace.level_count << " " << c.results;
  }
}

// On the security line, where errors of transforms outweigh; their fitted constant is a little too
// large, as for the trace (tests/wide_noise_test.cc).
TEST(StatisticalResultPacking, VarianceIsTheFormulas) {
  for (const PackingCase& c :
       {secure(2048, {16, 2}, 40), secure(2048, {12, 3}, 40), secure(2048, {9, 4}, 40),
        secure(4096, {16, 2}, 20), secure(8192, {15, 2}, 10)}) {
    const double ratio = packing_over_formula(c);
    RecordProperty("measured_over_formula", std::to_string(ratio));
    EXPECT_NEAR(ratio, 1, 0.15) << c.polynomial_size << " " << c.trace.level_count;
  }
}

}  // namespace
}  // namespace torusml
