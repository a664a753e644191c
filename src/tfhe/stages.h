// The stages of a bootstrap, each on a block of ciphertexts and on one thread. Internal to this
// room, its tests and its benchmark; bootstrap_batch composes them.
//
//   keyswitch_block(keys, inputs, 0, 8, small.data());      // 8 rows of 32-bit words
//   switch_block(small.data(), 8, n, modulus, switched.data());
//   BlindRotation rotation(keys, extension_log2, 8);
//   rotation.run(switched.data(), tables);
//   rotation.extract(0, outputs.row(0));
//
// Thread rule: keys are shared; everything else belongs to one thread.
#pragma once

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

// Modulus switch of a row of n mask words and a body to [0, modulus), a power of two up to 2^32,
// with the mask's errors centred in the same way.
void switch_row(const std::uint32_t* small, std::size_t n, std::uint64_t modulus,
                std::uint32_t* switched);

// Blind rotation of up to `capacity` ciphertexts at once: the outer loop runs over the bits of the
// small key, so that each matrix of the bootstrapping key is read once for all of them.
class BlindRotation {
 public:
  BlindRotation(const EvaluationKeys::State& keys, std::uint32_t extension_log2,
                std::size_t capacity);

  // switched: one row of n + 1 words in [0, 2 * N * 2^extension_log2) per table.
  void run(const std::uint32_t* switched, std::span<const Torus* const> tables);

  // Polynomial p (k masks, then the body) of shard j of the rotated table of ciphertext c.
  std::span<const Torus> accumulator(std::size_t c, std::size_t shard,
                                     std::size_t polynomial) const {
    return {accumulators_[c] + (shard * keys_.polynomials() + polynomial) * keys_.size(),
            keys_.size()};
  }

  // Coefficient 0 of shard 0 as a ciphertext under the big key.
  void extract(std::size_t c, std::span<Torus> row) const;

 private:
  void load_table(const Torus* table, std::uint32_t body, std::size_t c);
  void step(std::size_t c, std::size_t bit, std::uint32_t shift);

  const EvaluationKeys::State& keys_;
  const Kernels& kernels_;
  const FftPlan& plan_;
  const std::size_t extension_log2_, shards_;
  AlignedBuffer<Torus> words_;
  std::vector<Torus*> accumulators_;  // of each ciphertext: its shards, each k + 1 polynomials
  Torus* spare_;  // receives a step's result; with one shard, steps work in place and it is null
  AlignedBuffer<double> digits_, transformed_, products_, work_;
};

}  // namespace torusml
