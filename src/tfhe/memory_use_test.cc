#include "tfhe/memory_use.h"

#include <gtest/gtest.h>

#include "base/memory.h"
#include "random/generator.h"
#include "tfhe/bootstrap.h"
#include "tfhe/secret_keys.h"

namespace torusml {
namespace {

constexpr TfheParameters kSmall{.small_dimension = {12},
                                .glwe_dimension = {1},
                                .polynomial_size = {256},
                                .bootstrap = {.base_log2 = 9, .level_count = 4},
                                .keyswitch = {.base_log2 = 4, .level_count = 6},
                                .small_variance = {0x1p-56},
                                .glwe_variance = {0x1p-110}};

TEST(MemoryUse, KeysAreAsBigAsForeseen) {
  TfheParameters two_masks = kSmall;
  two_masks.glwe_dimension = {2};
  two_masks.small_dimension = {40};
  two_masks.bootstrap = {.base_log2 = 20, .level_count = 1};
  SecretGenerator random;
  for (const TfheParameters& parameters : {kSmall, two_masks}) {
    const SeededEvaluationKeys seeded =
        make_evaluation_keys(SecretKeys::generate(parameters, random), random);
    EXPECT_EQ(seeded_key_bytes(parameters),
              seeded.bootstrap_bodies.size() + seeded.keyswitch_bodies.size() * 4);
    const std::size_t prepared = EvaluationKeys::prepare(seeded).bytes();
    EXPECT_GE(prepared_key_bytes(parameters), prepared);
    EXPECT_LE(prepared_key_bytes(parameters), prepared + 2 * (std::size_t{2} << 20));
  }
}

TEST(MemoryUse, WithoutBootstrapThereAreNoKeys) {
  TfheParameters none = kSmall;
  none.bootstrap = none.keyswitch = {};
  EXPECT_EQ(prepared_key_bytes(none), 0u);
  EXPECT_EQ(seeded_key_bytes(none), 0u);
}

TEST(MemoryUse, CiphertextsAndScratch) {
  EXPECT_EQ(ciphertext_bytes(kSmall, 10), allocated_bytes(10 * 257 * 8));
  // One ciphertext on one thread: its switched words; accumulator, rows and the last level's values
  // with the monomials of kMostItems ciphertexts.
  EXPECT_EQ(bootstrap_scratch_bytes(kSmall, 0, 1, 1),
            13 * 4 + 2 * 256 * 8u + 8 * 320 * 8u + (8 * 64 + 16 * 2 * (64 + 2 + 2)) * 8u);
  const auto scratch = [](std::uint32_t extension, std::uint64_t count, int threads) {
    return bootstrap_scratch_bytes(kSmall, extension, count, threads);
  };
  EXPECT_EQ(scratch(0, 1, 8), scratch(0, 1, 1));  // threads without work have no scratch
  EXPECT_GT(scratch(0, 64, 2), scratch(0, 64, 1));
  EXPECT_GT(scratch(8, 1, 1), 256 * (2 * 256 + 8 * 320) * 8u);  // the accumulator, and its rows
}

}  // namespace
}  // namespace torusml
