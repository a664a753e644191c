// The stages of a bootstrap, each on a block of ciphertexts and on one thread. Internal to this
// room, its tests and its benchmark; bootstrap_batch composes them.
//
//   keyswitch_block(keys, inputs, 0, 8, small.data());      // 8 rows of 32-bit words
//   switch_row(small.data(), n, modulus, switched.data());  // of the first one
//   BlindRotation rotation(keys, extension_log2, 8);
//   rotation.run(switched.data(), tables);
//   rotation.extract(0, outputs.row(0));
//
// Thread rule: keys are shared; everything else belongs to one thread.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "base/memory.h"
#include "tfhe/prepared_keys.h"

namespace torusml {

// Ciphertexts first .. first + count - 1 of `inputs` to rows of keyswitch_pitch 32-bit words: small
// mask, body. Gadget rounding is centred: half of the mask's rounding error goes to the body, so
// that each error meets s - 1/2 instead of s.
void keyswitch_block(const EvaluationKeys::State& keys, const LweBatch& inputs, std::size_t first,
                     std::size_t count, std::uint32_t* small);

// Modulus switch of a row of n mask words and a body to multiples of 2^grain_log2 in [0, modulus),
// a power of two up to 2^32, with the mask's errors centred in the same way.
void switch_row(const std::uint32_t* small, std::size_t n, std::uint64_t modulus,
                std::uint32_t* switched, std::uint32_t grain_log2 = 0);

// Ciphertexts that share one reading of the keys, at most: of the keyswitch key, and of a step's.
// Shards of one ciphertext are a batch by themselves.
inline constexpr std::size_t kKeyswitchBlock = 32;
inline std::size_t rotation_block(std::uint32_t extension_log2) {
  constexpr std::size_t kShards = 64;
  return std::clamp<std::size_t>(kShards >> extension_log2, 1, kMostItems);
}

// The mask of a coefficient of a GLWE ciphertext's phase, from one of its mask polynomials.
void extract_mask(std::span<const Torus> polynomial, std::size_t coefficient, Torus* mask);

// Blind rotation of up to `capacity` ciphertexts at once: the outer loop runs over the steps, so
// that each step's keys are read once for all of them.
//
// A rotation may read 2^v tables at once: entry u of table f stands at u * 2^v + f, exponents are
// multiples of 2^v, and coefficient f is the result of table f. v is above 0 only with one shard.
//
// Steps commute, and only coefficient 0 of shard 0 is read in the end. So a ciphertext takes the
// steps whose exponents have the fewest trailing zeros first: once all exponents that remain are
// multiples of 2^t, only shards that are multiples of 2^t can still reach shard 0, and the others
// are left as they are.
class BlindRotation {
 public:
  BlindRotation(const EvaluationKeys::State& keys, std::uint32_t extension_log2,
                std::size_t capacity);

  // rows: of each ciphertext, n + 1 words in [0, 2 * N * 2^extension_log2), multiples of
  // 2^tables_log2. tables: 2^tables_log2 for each ciphertext; a null stands for zeros.
  void run(std::span<const std::uint32_t* const> rows, std::span<const Torus* const> tables,
           std::uint32_t tables_log2);
  // A table for each ciphertext; rows one after the other. `whole` keeps all shards up to date to
  // the end, for tests that look at them.
  void run(const std::uint32_t* switched, std::span<const Torus* const> tables, bool whole = false);

  // Polynomial p (k masks, then the body) of shard j of the rotated table of ciphertext c.
  std::vector<Torus> accumulator(std::size_t c, std::size_t shard, std::size_t polynomial) const;

  // A coefficient of shard 0 as a ciphertext under the big key.
  void extract(std::size_t c, std::span<Torus> row, std::size_t coefficient = 0) const;

 private:
  // Steps that leave shards alone which are no multiples of 2^skip_log2.
  struct Part {
    std::size_t ciphertext = 0;
    StepItem item;
  };

  void rotate(std::span<const std::uint32_t* const> rows, std::span<const Torus* const> tables,
              std::uint32_t tables_log2, bool whole);
  void load_tables(const Torus* const* tables, std::uint32_t tables_log2, std::uint32_t body,
                   std::size_t c);
  void sweep(std::span<const std::uint32_t* const> rows, std::uint32_t skip_log2, bool last);
  void step(std::size_t index, std::uint32_t skip_log2);
  std::uint8_t* words(std::size_t c, std::size_t shard, std::size_t polynomial) const {
    return words_.data() +
           ((c * shards_ + shard) * keys_.polynomials() + polynomial) * keys_.size() * word_bytes_;
  }

  const EvaluationKeys::State& keys_;
  const Kernels& kernels_;
  const FftPlan& plan_;
  const std::size_t extension_log2_, shards_, word_bytes_;
  mutable AlignedBuffer<std::uint8_t> words_;  // accumulators: ciphertext, shard, polynomial
  std::size_t item_doubles_;
  AlignedBuffer<double> rows_, scratch_;
  std::vector<Part> parts_;  // of the step at hand
  std::vector<StepItem> items_;
};

}  // namespace torusml
