#include "tfhe/memory_use.h"

#include <gtest/gtest.h>

#include <cstdio>

#include "base/memory.h"
#include "base/peak_memory.h"
#include "base/threads.h"
#include "random/generator.h"
#include "tfhe/bootstrap.h"
#include "tfhe/secret_keys.h"
#include "tfhe/testing/insecure_parameters.h"
#include "tfhe/wide_lookup.h"

namespace torusml {
namespace {

TfheParameters with_circuit_bootstrap(std::uint32_t size = 256) {
  TfheParameters parameters = kInsecure;
  parameters.polynomial_size = {size};
  parameters.circuit_bootstrap = {.base_log2 = 6, .level_count = 3};
  parameters.trace = {.base_log2 = 8, .level_count = 5};
  return parameters;
}

TEST(MemoryUse, KeysAreAsBigAsForeseen) {
  TfheParameters two_masks = kInsecure;
  two_masks.glwe_dimension = {2};
  two_masks.small_dimension = {40};
  two_masks.bootstrap = {.base_log2 = 20, .level_count = 1};
  SecretGenerator random;
  for (const TfheParameters& parameters : {kInsecure, two_masks, with_circuit_bootstrap()}) {
    const SeededEvaluationKeys seeded =
        make_evaluation_keys(SecretKeys::generate(parameters, random), random);
    EXPECT_EQ(seeded_key_bytes(parameters), seeded.bootstrap_bodies.size() +
                                                seeded.keyswitch_bodies.size() * 4 +
                                                seeded.trace_bodies.size());
    const std::size_t prepared = EvaluationKeys::prepare(seeded).bytes();
    EXPECT_GE(prepared_key_bytes(parameters), prepared);
    EXPECT_LE(prepared_key_bytes(parameters), prepared + 2 * (std::size_t{2} << 20));
  }
}

TEST(MemoryUse, WithoutBootstrapThereAreNoKeys) {
  TfheParameters none = kInsecure;
  none.bootstrap = none.keyswitch = {};
  EXPECT_EQ(prepared_key_bytes(none), 0u);
  EXPECT_EQ(seeded_key_bytes(none), 0u);
}

TEST(MemoryUse, CiphertextsAndScratch) {
  EXPECT_EQ(ciphertext_bytes(kInsecure, 10), allocated_bytes(10 * 257 * 8));
  // One ciphertext on one thread: its switched words; accumulator, rows and the last level's values
  // with the monomials of kMostItems ciphertexts.
  EXPECT_EQ(bootstrap_scratch_bytes(kInsecure, 0, 1, 1),
            13 * 4 + 2 * 256 * 8u + 8 * 320 * 8u + (8 * 64 + 16 * 2 * (64 + 2 + 2)) * 8u);
  const auto scratch = [](std::uint32_t extension, std::uint64_t count, int threads) {
    return bootstrap_scratch_bytes(kInsecure, extension, count, threads);
  };
  EXPECT_EQ(scratch(0, 1, 8), scratch(0, 1, 1));  // threads without work have no scratch
  EXPECT_GT(scratch(0, 64, 2), scratch(0, 64, 1));
  // Several rotations of a ciphertext are worked on like several ciphertexts.
  EXPECT_EQ(bootstrap_scratch_bytes(kInsecure, 0, 1, 1, 4) - scratch(0, 1, 1),
            scratch(0, 4, 1) - scratch(0, 1, 1) - 3 * 13 * 4);
  EXPECT_GT(scratch(8, 1, 1), 256 * (2 * 256 + 8 * 320) * 8u);  // the accumulator, and its rows
}

TEST(MemoryUse, TraceKeys) {
  // 8 automorphisms and the square, 5 levels, mask and body.
  EXPECT_EQ(prepared_key_bytes(with_circuit_bootstrap()) - prepared_key_bytes(kInsecure),
            9 * 5 * 2 * 256 * 8u);
  EXPECT_EQ(seeded_key_bytes(with_circuit_bootstrap()) - seeded_key_bytes(kInsecure),
            9 * 5 * 256 * kInsecure.body_bytes());
  TfheParameters packing = with_circuit_bootstrap();  // no square
  packing.circuit_bootstrap = {};
  EXPECT_EQ(prepared_key_bytes(packing) - prepared_key_bytes(kInsecure), 8 * 5 * 2 * 256 * 8u);
  EXPECT_EQ(seeded_key_bytes(packing) - seeded_key_bytes(kInsecure),
            8 * 5 * 256 * kInsecure.body_bytes());
}

WideTable make_table(PolynomialSize size, const WideShape& shape) {
  const std::vector<std::uint64_t> entries(std::size_t{1} << shape.index_bits);
  const std::vector<Torus> words(std::size_t{1} << shape.digit_bits);
  return {size, shape, entries, std::vector(shape.digit_count, words)};
}

TEST(MemoryUse, WideTables) {
  for (const std::uint32_t index_bits : {1u, 3u, 7u, 8u, 9u, 12u}) {
    for (const std::uint32_t digit_count : {1u, 2u, 3u, 5u}) {
      const WideShape shape{.index_bits = index_bits, .digit_bits = 3, .digit_count = digit_count};
      EXPECT_EQ(wide_table_bytes({256}, shape), make_table({256}, shape).bytes())
          << index_bits << " " << digit_count;
    }
  }
}

TEST(MemoryUse, WideScratch) {
  const TfheParameters parameters = with_circuit_bootstrap();
  const auto scratch = [&](const WideShape& shape, std::uint64_t count, int threads) {
    return wide_lookup_scratch_bytes(parameters, shape, count, threads);
  };
  const WideShape shape{.index_bits = 7, .bits_per_rotation = 2, .digit_count = 3};
  // One ciphertext on one thread: its GGSW ciphertexts, keyswitched and switched words, five LWE
  // ciphertexts; the rotation as above; 6 GLWE ciphertexts with their products and three
  // polynomials; 16 products of vertical packing, a difference and two polynomials of entries.
  constexpr std::size_t kMonomials = 16 * 2 * (64 + 2 + 2);
  const std::size_t block = 7 * 6 * 2 * 256 * 8 + 16 * 4 + 13 * 4 + 5 * 257 * 8;
  const std::size_t rotation = 2 * 256 * 8 + 8 * 320 * 8 + (8 * 64 + kMonomials) * 8;
  const std::size_t circuit =
      6 * 2 * 256 * 8 + (6 * 5 * 320 + 5 * 64 + kMonomials) * 8 + 3 * 256 * 8;
  const std::size_t packing = (16 * 6 * 320 + 6 * 64 + kMonomials) * 8 + 3 * 2 * 256 * 8;
  EXPECT_EQ(scratch(shape, 1, 1), block + rotation + circuit + packing);
  EXPECT_EQ(scratch(shape, 0, 1), 0u);
  EXPECT_EQ(scratch(shape, 1, 8), scratch(shape, 1, 1));
  EXPECT_EQ(scratch(shape, 8, 8), 8 * scratch(shape, 1, 1));
  EXPECT_EQ(scratch(shape, 100, 1), scratch(shape, 16, 1));
  EXPECT_EQ(scratch(shape, 100, 2), 2 * scratch(shape, 16, 1));
  // Among 2^12 / 256 polynomials half are chosen at the first bit.
  const WideShape longer{.index_bits = 12, .bits_per_rotation = 2, .digit_count = 3};
  EXPECT_EQ(scratch(longer, 1, 1) - scratch(shape, 1, 1),
            5 * 6 * 2 * 256 * 8 + (8 + 3 - 2) * 2 * 256 * 8u);
}

// Against the memory that the process really takes.
TEST(MemoryUse, WideScratchIsNearWhatALookupTakes) {
#if defined(__SANITIZE_ADDRESS__)
  GTEST_SKIP() << "the address sanitizer keeps freed memory";
#endif
  constexpr std::size_t kCount = 16;
  const TfheParameters parameters = with_circuit_bootstrap(2048);
  const WideShape shape{
      .index_bits = 14, .bits_per_rotation = 2, .digit_bits = 3, .digit_count = 2};
  SecretGenerator random;
  const SecretKeys secret = SecretKeys::generate(parameters, random);
  const EvaluationKeys keys = EvaluationKeys::prepare(make_evaluation_keys(secret, random));
  const WideTable table = make_table(parameters.polynomial_size, shape);
  const std::vector<const WideTable*> tables(kCount, &table);
  const LweBatch inputs = expand(encrypt(secret, std::vector<Torus>(kCount), random));
  LweBatch outputs(inputs.dimension, kCount);
  const auto growth = peak_growth(
      [&] { with_threads(1, [&] { wide_lookup_batch(keys, inputs, tables, outputs); }); });
  if (!growth) GTEST_SKIP() << "no peak of resident memory on this system";
  const auto expected =
      static_cast<double>(wide_lookup_scratch_bytes(parameters, shape, kCount, 1));
  EXPECT_GT(static_cast<double>(*growth), 0.75 * expected);
  EXPECT_LT(static_cast<double>(*growth), 1.15 * expected);
  std::printf("%.1f MB foreseen, %.1f MB taken\n", expected * 1e-6,
              static_cast<double>(*growth) * 1e-6);
}

}  // namespace
}  // namespace torusml
