#include "tfhe/result_packing.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <span>

#include "base/testing/errors.h"
#include "base/threads.h"
#include "random/test_seed.h"
#include "tfhe/secret_keys.h"
#include "torusml/error.h"

namespace torusml {
namespace {

// Insecure, with as little noise as keys can have.
TfheParameters tiny(std::uint32_t size) {
  return {.small_dimension = {12},
          .glwe_dimension = {1},
          .polynomial_size = {size},
          .bootstrap = {14, 2},
          .keyswitch = {4, 6},
          .accumulator_bits = 32,
          .small_variance = {0x1p-58},
          .glwe_variance = {0x1p-124},
          .trace = {7, 7}};
}

struct Keys {
  explicit Keys(const TfheParameters& parameters)
      : random(TestSeed::make(11)),
        secret(SecretKeys::generate(parameters, random)),
        evaluation(EvaluationKeys::prepare(make_evaluation_keys(secret, random))) {}

  SecretGenerator random;
  SecretKeys secret;
  EvaluationKeys evaluation;
};

LweBatch random_results(LweDimension dimension, std::size_t count) {
  LweBatch results(dimension, count);
  std::mt19937_64 random(count);
  for (Torus& word : std::span<Torus>(results.words)) word = random();
  return results;
}

double distance(Torus a, Torus b) {
  return std::abs(std::ldexp(static_cast<double>(static_cast<std::int64_t>(a - b)), -64));
}

double largest_distance(std::span<const Torus> a, std::span<const Torus> b) {
  double largest = 0;
  for (std::size_t i = 0; i < a.size(); ++i) largest = std::max(largest, distance(a[i], b[i]));
  return largest;
}

// Bounds: six standard deviations by result_packing_variance (2^-36.0, 2^-31.8, 2^-27.6, 2^-25.6)
// and a bit more. Transforms make most of them.
TEST(ResultPacking, PhasesStayWhatTheyWere) {
  for (const auto& [size, bound] :
       {std::pair{64u, 0x1p-33}, {256u, 0x1p-29}, {1024u, 0x1p-25}, {2048u, 0x1p-23}}) {
    Keys keys(tiny(size));
    for (const std::size_t count : {1u, 2u, 3u, 5u, size / 2, size - 1, size, size + 1, 2 * size}) {
      LweBatch results = random_results({size}, count);
      const PackedResults packed = pack_results(keys.evaluation, results, 64);
      EXPECT_EQ(packed.ciphertexts(), (count + size - 1) / size);
      EXPECT_EQ(packed.words.size(), packed.ciphertexts() * size + count);
      const SecretBuffer<Torus> phases = decrypt(keys.secret, packed);
      ASSERT_EQ(phases.size(), count);
      EXPECT_LT(largest_distance(phases, decrypt(keys.secret, results)), bound)
          << size << " " << count;
    }
  }
}

// Constants have no mask, and equal results get no equal errors.
TEST(ResultPacking, ConstantsAndEqualResults) {
  Keys keys(tiny(64));
  LweBatch results = random_results({64}, 8);
  for (std::size_t i = 0; i < 4; ++i) std::ranges::fill(results.row(i).first(64), Torus{0});
  std::ranges::copy(results.row(6), results.row(7).begin());
  const SecretBuffer<Torus> expected = decrypt(keys.secret, results);
  const SecretBuffer<Torus> phases =
      decrypt(keys.secret, pack_results(keys.evaluation, results, 64));
  EXPECT_LT(largest_distance(phases, expected), 0x1p-33);
  EXPECT_NE(phases[6], phases[7]);
}

TEST(ResultPacking, WordsAreRounded) {
  Keys keys(tiny(256));
  const LweBatch results = random_results({256}, 20);
  const PackedResults packed = pack_results(keys.evaluation, results, 20);
  for (const Torus word : packed.words) EXPECT_EQ(word << 20, 0u);
  // Six standard deviations of the rounding, 2^-20 sqrt((256 / 4 + 1) / 12).
  EXPECT_LT(largest_distance(decrypt(keys.secret, packed), decrypt(keys.secret, results)),
            14 * 0x1p-20);
}

TEST(ResultPacking, DoesNotDependOnThreads) {
  Keys keys(tiny(64));
  const LweBatch results = random_results({64}, 150);
  PackedResults packed[2];
  for (const int threads : {1, 0})
    with_threads(threads, [&] { packed[threads] = pack_results(keys.evaluation, results, 64); });
  EXPECT_TRUE(std::ranges::equal(packed[0].words, packed[1].words));
}

TEST(ResultPacking, PlacesOfResults) {
  const PackedResults results({64}, 64 + 3);
  EXPECT_EQ(results.ciphertexts(), 2u);
  EXPECT_EQ(results.results_of(0), 64u);
  EXPECT_EQ(results.results_of(1), 3u);
  EXPECT_EQ(results.stride_of(0), 1u);
  EXPECT_EQ(results.stride_of(1), 16u);
  EXPECT_EQ(results.mask(1).data() - results.words.data(), 128);
  EXPECT_EQ(results.bodies(1).data() - results.words.data(), 192);
  EXPECT_EQ(results.words.size(), 195u);
}

TEST(ResultPacking, WrongKeysAreRefused) {
  Keys keys(tiny(64));
  TfheParameters without = tiny(64);
  without.trace = {};
  Keys without_trace(without);
  expect_error(ErrorCode::wrong_key, "no trace",
               [&] { pack_results(without_trace.evaluation, random_results({64}, 2), 64); });
  expect_error(ErrorCode::wrong_key, "dimension 128",
               [&] { pack_results(keys.evaluation, random_results({128}, 2), 64); });
  expect_error(ErrorCode::wrong_key, "dimension 32",
               [&] { decrypt(keys.secret, PackedResults({32}, 2)); });
  TfheParameters odd = without;
  odd.glwe_dimension = {3};
  Keys of_three(odd);
  expect_error(ErrorCode::wrong_key, "no power of two",
               [&] { decrypt(of_three.secret, PackedResults({192}, 2)); });
}

}  // namespace
}  // namespace torusml
