// Cost model: milliseconds of one core, and bytes of keys, as functions of the parameters.
//
//   const double ms = count * lookup_ms(p, extension_log2, kShippedCostTable);
//
// Counted kernel calls at the cost table's times; it ranks parameter sets and predicts the order of
// magnitude, it does not replace a measurement. Pure functions.
#pragma once

#include <cstdint>

#include "parameters/cost_table.h"
#include "tfhe/types.h"

namespace torusml {

// Of one degree-N shard and one step of the blind rotation, that is, of grouping_factor bits.
double shard_step_ns(const TfheParameters& p, const CostTable& table);

// Mean number of shards that a step touches when the table has 2^extension_log2 of them. Groups of
// mask elements are taken by their 2-adic valuation t, the least first: P(t or more) =
// 2^(-grouping_factor t), and from then on only every 2^t-th shard matters.
double expected_shards(std::uint32_t grouping_factor, std::uint32_t extension_log2);

double keyswitch_ms(const TfheParameters& p, const CostTable& table);
double rotation_ms(const TfheParameters& p, std::uint32_t extension_log2, const CostTable& table);
// One keyswitch and one blind rotation.
double lookup_ms(const TfheParameters& p, std::uint32_t extension_log2, const CostTable& table);
// So many tables of one value: one keyswitch, and the rotations of this shape.
double lookup_ms(const TfheParameters& p, const RotationShape& shape, std::uint64_t tables,
                 const CostTable& table);
// So many tables of one value by wide lookups; p has circuit bootstrapping.
double wide_lookup_ms(const TfheParameters& p, const WideShape& shape, const CostTable& table,
                      std::uint64_t tables = 1);
// `multiplications` products of a clear weight and a ciphertext under the big key.
double linear_ms(const TfheParameters& p, double multiplications, const CostTable& table);

struct KeyBytes {
  double memory = 0, wire = 0;
};
// Both 0 without a bootstrap.
KeyBytes key_bytes(const TfheParameters& p);

// Evaluation keys prepared for use: doubles in the Fourier domain, 32-bit keyswitch rows of n + 1
// words padded to kKeyswitchRowWords.
constexpr std::uint32_t kKeyswitchRowWords = 16;
double bootstrap_key_bytes(const TfheParameters& p);
double keyswitch_key_bytes(const TfheParameters& p);
double trace_key_bytes(const TfheParameters& p);
double memory_key_bytes(const TfheParameters& p);

// Evaluation keys as they travel: seeds in place of masks, and of the bodies the bits that carry
// something: log2(1 / sigma) and a few below, in whole bytes.
double wire_key_bytes(const TfheParameters& p);

}  // namespace torusml
