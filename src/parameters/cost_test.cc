#include "parameters/cost.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "parameters/noise.h"
#include "parameters/shipped_cost_table.h"

namespace torusml {
namespace {

constexpr TfheParameters kParameters{.small_dimension = {780},
                                     .glwe_dimension = {1},
                                     .polynomial_size = {2048},
                                     .bootstrap = {.base_log2 = 23, .level_count = 1},
                                     .keyswitch = {.base_log2 = 3, .level_count = 5},
                                     .grouping_factor = 2,
                                     .accumulator_bits = 64,
                                     .small_variance = {0x1p-34},
                                     .glwe_variance = {0x1p-100}};

TEST(Cost, ShardStepsAreCounted) {
  CostTable table;
  table.at(2048);  // a table knows every degree of the engine
  table.polynomials[5] = {.transform_ns = 1000, .multiply_ns = 1};
  EXPECT_DOUBLE_EQ(shard_step_ns(kParameters, table), 4 * 1000 + 3 * 2 + 3 * 4);
  TfheParameters p = kParameters;
  p.grouping_factor = 1;
  EXPECT_DOUBLE_EQ(shard_step_ns(p, table), 4 * 1000 + 2 + 4);
  p.bootstrap.level_count = 2;
  EXPECT_DOUBLE_EQ(shard_step_ns(p, table), 6 * 1000 + 4 + 8);
  p.accumulator_bits = 32;
  table.narrow_accumulator = 0.5;
  EXPECT_DOUBLE_EQ(shard_step_ns(p, table), 0.5 * (6 * 1000 + 4 + 8));
}

TEST(Cost, ExpectedShards) {
  EXPECT_DOUBLE_EQ(expected_shards(1, 0), 1);
  EXPECT_DOUBLE_EQ(expected_shards(1, 1), 1.5);
  EXPECT_DOUBLE_EQ(expected_shards(2, 1), 1.75);
  EXPECT_DOUBLE_EQ(expected_shards(1, 2), 2.75);
  // Groups of random mask elements, in the order of their valuation.
  std::mt19937_64 engine{7};
  for (const std::uint32_t group : {1, 2}) {
    constexpr std::uint32_t kExtension = 4;
    double shards = 0;
    constexpr int kGroups = 200000;
    for (int i = 0; i < kGroups; ++i) {
      std::uint32_t valuation = kExtension;
      for (std::uint32_t e = 0; e < group; ++e)
        valuation = std::min<std::uint32_t>(valuation, std::countr_zero(engine()));
      shards += std::exp2(kExtension - valuation);
    }
    EXPECT_NEAR(shards / kGroups / expected_shards(group, kExtension), 1, 0.01);
  }
}

TEST(Cost, LookupIsStepsAndKeyswitch) {
  const CostTable& table = kShippedCostTable;
  const double steps = 390 * expected_shards(2, 3);
  EXPECT_DOUBLE_EQ(keyswitch_ms(kParameters, table),
                   (2048 - 780) * 5 * 781 * table.keyswitch_ns * 1e-6);
  EXPECT_DOUBLE_EQ(
      lookup_ms(kParameters, 3, table),
      steps * shard_step_ns(kParameters, table) * 1e-6 + keyswitch_ms(kParameters, table));
  EXPECT_DOUBLE_EQ(linear_ms(kParameters, 1000, table), 1000 * 2049 * table.linear_ns * 1e-6);
}

TEST(Cost, BytesOfKeys) {
  EXPECT_EQ(bootstrap_key_bytes(kParameters), 390.0 * 3 * 4 * 2048 * 8);
  EXPECT_EQ(keyswitch_key_bytes(kParameters), (2048.0 - 780) * 5 * 784 * 4);  // 781 words, padded
  EXPECT_EQ(memory_key_bytes(kParameters),
            bootstrap_key_bytes(kParameters) + keyswitch_key_bytes(kParameters));
  // 50 + 5 bits of a body are 7 bytes.
  EXPECT_EQ(wire_key_bytes(kParameters), 390.0 * 3 * 2 * 2048 * 7 + (2048.0 - 780) * 5 * 4);
  TfheParameters p = kParameters;
  p.glwe_variance = minimal_variance(4096, 128);
  EXPECT_EQ(wire_key_bytes(p), 390.0 * 3 * 2 * 2048 * 8 + (2048.0 - 780) * 5 * 4);
}

TEST(Cost, ShippedTableGrowsWithTheDegree) {
  for (std::uint32_t size = 128; size <= 65536; size *= 2) {
    const PolynomialCost& half = kShippedCostTable.at(size / 2);
    const PolynomialCost& cost = kShippedCostTable.at(size);
    EXPECT_GT(cost.transform_ns, 1.6 * half.transform_ns);
    EXPECT_GT(cost.multiply_ns, 1.6 * half.multiply_ns);
  }
}

}  // namespace
}  // namespace torusml
