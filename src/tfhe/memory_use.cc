#include "tfhe/memory_use.h"

#include <algorithm>

#include "base/memory.h"
#include "tfhe/prepared_keys.h"
#include "tfhe/stages.h"
#include "tfhe/validate.h"

namespace torusml {
namespace {

constexpr std::uint64_t kPitchWords = 16;  // of the keyswitch key's rows (prepared_keys.cc)

std::uint64_t polynomials(const TfheParameters& p) { return p.glwe_dimension.value + 1; }

std::uint64_t keyswitch_rows(const TfheParameters& p) {
  return std::uint64_t{p.big_dimension().value - p.small_dimension.value} * p.keyswitch.level_count;
}

std::uint64_t keyswitch_pitch(const TfheParameters& p) {
  return (p.small_dimension.value + kPitchWords) / kPitchWords * kPitchWords;
}

std::uint64_t keyswitch_scratch(const TfheParameters& p, std::uint64_t block) {
  return block * (keyswitch_rows(p) + keyswitch_pitch(p)) * sizeof(std::uint32_t);
}

std::uint64_t rotation_scratch(const TfheParameters& p, std::uint32_t extension_log2,
                               std::uint64_t block) {
  const std::uint64_t shards = std::uint64_t{1} << extension_log2, size = p.polynomial_size.value;
  StepShape shape{.keys = p.keys_per_step(),
                  .rows = polynomials(p) * p.bootstrap.level_count,
                  .columns = polynomials(p),
                  .row_pitch = row_pitch(size),
                  .shards_log2 = extension_log2};
  const std::uint64_t accumulators = shards * polynomials(p) * size * (p.accumulator_bits / 8);
  const std::uint64_t rows = shards * shape.rows * shape.row_pitch * sizeof(double);
  return block * (accumulators + rows) + shape.scratch_doubles(size / 2) * sizeof(double);
}

}  // namespace

std::uint64_t prepared_key_bytes(const TfheParameters& p) {
  if (!p.has_bootstrap()) return 0;
  const std::uint64_t bootstrap_words =
      KeySizes(p).glwe_rows * polynomials(p) * p.polynomial_size.value;
  return allocated_bytes(bootstrap_words * sizeof(double)) +
         allocated_bytes(keyswitch_rows(p) * keyswitch_pitch(p) * sizeof(std::uint32_t));
}

std::uint64_t seeded_key_bytes(const TfheParameters& p) {
  const KeySizes sizes(p);
  return sizes.bootstrap_bodies + sizes.keyswitch_bodies * sizeof(std::uint32_t);
}

std::uint64_t ciphertext_bytes(const TfheParameters& p, std::uint64_t count) {
  return allocated_bytes(count * (std::uint64_t{p.big_dimension().value} + 1) * sizeof(Torus));
}

// The stages follow each other; between them stands a row of switched words per ciphertext.
std::uint64_t bootstrap_scratch_bytes(const TfheParameters& p, std::uint32_t extension_log2,
                                      std::uint64_t count, int threads) {
  const std::uint64_t switched =
      count * (std::uint64_t{p.small_dimension.value} + 1) * sizeof(std::uint32_t);
  const std::uint64_t blocks = static_cast<std::uint64_t>(threads);
  const std::uint64_t keyswitches = std::min<std::uint64_t>(count, kKeyswitchBlock);
  const std::uint64_t rotations = std::min<std::uint64_t>(count, rotation_block(extension_log2));
  return switched +
         std::min(blocks, count) * std::max(keyswitch_scratch(p, keyswitches),
                                            rotation_scratch(p, extension_log2, rotations));
}

}  // namespace torusml
