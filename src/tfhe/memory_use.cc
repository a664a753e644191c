#include "tfhe/memory_use.h"

#include <algorithm>

#include "base/memory.h"
#include "tfhe/circuit_bootstrap.h"
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

std::uint64_t keyswitch_digits(const TfheParameters& p, std::uint64_t block) {
  return block * keyswitch_rows(p) * sizeof(std::uint32_t);
}

std::uint64_t keyswitch_scratch(const TfheParameters& p, std::uint64_t block) {
  return keyswitch_digits(p, block) + block * keyswitch_pitch(p) * sizeof(std::uint32_t);
}

std::uint64_t switched_bytes(const TfheParameters& p, std::uint64_t count) {
  return count * (std::uint64_t{p.small_dimension.value} + 1) * sizeof(std::uint32_t);
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
  return allocated_bytes(block * accumulators) + allocated_bytes(block * rows) +
         shape.scratch_doubles(size / 2) * sizeof(double);
}

// Of a GLWE ciphertext with k = 1.
std::uint64_t glwe_bytes(std::uint64_t size) { return 2 * size * sizeof(Torus); }

StepShape trace_shape(const TfheParameters& p) {
  return {.keys = 1,
          .rows = p.trace.level_count,
          .columns = 2,
          .row_pitch = row_pitch(p.polynomial_size.value)};
}

// Of an ExternalProduct.
std::uint64_t product_scratch(const TfheParameters& p, const StepShape& shape,
                              std::uint64_t capacity) {
  const std::uint64_t rows = std::max(shape.rows, shape.columns) * shape.row_pitch;
  return (capacity * rows + shape.scratch_doubles(p.polynomial_size.value / 2)) * sizeof(double);
}

// Where a wide table's digits lie; WideTable says what these are.
struct WideLayout {
  std::uint64_t packed, leaves;
};

WideLayout wide_layout(std::uint64_t size, const WideShape& shape) {
  const std::uint64_t entries = std::uint64_t{1} << shape.index_bits;
  const std::uint64_t slots = std::max<std::uint64_t>(1, size / entries);
  return {.packed = (shape.digit_count + slots - 1) / slots,
          .leaves = std::max<std::uint64_t>(1, entries / size)};
}

// Circuit bootstrapping of one rotation's bits: their ciphertexts, and a CircuitBootstrap.
std::uint64_t circuit_scratch(const TfheParameters& p, const WideShape& shape) {
  const std::uint64_t size = p.polynomial_size.value;
  const std::uint64_t ciphertexts =
      std::uint64_t{shape.bits_per_rotation} * p.circuit_bootstrap.level_count;
  return ciphertexts * glwe_bytes(size) + product_scratch(p, trace_shape(p), ciphertexts) +
         glwe_bytes(size) + size * sizeof(Torus);
}

// A VerticalPacking with the tree of its leaves, and the entries that it gives.
std::uint64_t packing_scratch(const TfheParameters& p, const WideShape& shape) {
  const std::uint64_t size = p.polynomial_size.value;
  const WideLayout layout = wide_layout(size, shape);
  return product_scratch(p, ggsw_shape(p), kMostItems) +
         (1 + layout.leaves / 2 + layout.packed) * glwe_bytes(size);
}

// What a block of ciphertexts keeps: inputs, a rotation's operands, keyswitched and switched words,
// GGSW ciphertexts of the index, digits of the entries.
std::uint64_t wide_block_bytes(const TfheParameters& p, const WideShape& shape,
                               std::uint64_t block) {
  const std::uint64_t size = p.polynomial_size.value;
  const std::uint64_t matrix = ggsw_shape(p).matrix_doubles(size / 2) * sizeof(double);
  return allocated_bytes(block * shape.index_bits * matrix) +
         block * keyswitch_pitch(p) * sizeof(std::uint32_t) + switched_bytes(p, block) +
         (2 + shape.digit_count) * block * (size + 1) * sizeof(Torus);
}

// Polynomials beside the keyswitch's digits, or while a matrix is written: a rotation's table, two
// polynomials of its result, and three that a MatrixWriter works with.
constexpr std::uint64_t kLoosePolynomials = 6;

}  // namespace

std::uint64_t prepared_key_bytes(const TfheParameters& p) {
  if (!p.has_bootstrap()) return 0;
  const std::uint64_t bootstrap_words =
      KeySizes(p).glwe_rows * polynomials(p) * p.polynomial_size.value;
  const std::uint64_t trace_words =
      KeySizes(p).trace_keys * p.trace.level_count * polynomials(p) * p.polynomial_size.value;
  return allocated_bytes(bootstrap_words * sizeof(double)) +
         allocated_bytes(keyswitch_rows(p) * keyswitch_pitch(p) * sizeof(std::uint32_t)) +
         allocated_bytes(trace_words * sizeof(double));
}

std::uint64_t seeded_key_bytes(const TfheParameters& p) {
  const KeySizes sizes(p);
  return sizes.bootstrap_bodies + sizes.keyswitch_bodies * sizeof(std::uint32_t) +
         sizes.trace_bodies;
}

std::uint64_t ciphertext_bytes(const TfheParameters& p, std::uint64_t count) {
  return allocated_bytes(count * (std::uint64_t{p.big_dimension().value} + 1) * sizeof(Torus));
}

// The stages follow each other; between them stands a row of switched words per ciphertext.
std::uint64_t bootstrap_scratch_bytes(const TfheParameters& p, std::uint32_t extension_log2,
                                      std::uint64_t count, int threads, std::uint64_t turns) {
  const auto blocks = static_cast<std::uint64_t>(threads);
  const std::uint64_t keyswitches = std::min<std::uint64_t>(count, kKeyswitchBlock);
  const std::uint64_t rotations =
      std::min<std::uint64_t>(count * turns, rotation_block(extension_log2));
  const std::uint64_t of_keyswitches = std::min(blocks, count) * keyswitch_scratch(p, keyswitches);
  const std::uint64_t of_rotations =
      std::min(blocks, count * turns) * rotation_scratch(p, extension_log2, rotations);
  return switched_bytes(p, count) + std::max(of_keyswitches, of_rotations);
}

std::uint64_t wide_table_bytes(PolynomialSize size, const WideShape& shape) {
  const WideLayout layout = wide_layout(size.value, shape);
  return (layout.packed * layout.leaves + shape.digit_count) * size.value * sizeof(Torus);
}

// Keyswitches and vertical packing follow each other; everything else is there all the time.
std::uint64_t wide_lookup_scratch_bytes(const TfheParameters& p, const WideShape& shape,
                                        std::uint64_t count, int threads) {
  const auto blocks = std::min(static_cast<std::uint64_t>(threads), count);
  if (blocks == 0) return 0;
  const std::uint64_t block = std::min<std::uint64_t>((count + blocks - 1) / blocks, kMostItems);
  const std::uint64_t loose = kLoosePolynomials * p.polynomial_size.value * sizeof(Torus);
  return blocks * (wide_block_bytes(p, shape, block) + rotation_scratch(p, 0, block) +
                   circuit_scratch(p, shape) +
                   std::max(keyswitch_digits(p, block) + loose, packing_scratch(p, shape)));
}

}  // namespace torusml
