// Batches of LWE ciphertexts. Row i is (a_1 .. a_dimension, b) with b = sum a_j s_j + phase.
#pragma once

#include <array>
#include <cstddef>
#include <span>
#include <vector>

#include "base/memory.h"
#include "tfhe/types.h"

namespace torusml {

struct LweBatch {
  LweDimension dimension;
  std::size_t count = 0;
  AlignedBuffer<Torus> words;  // count rows of dimension + 1

  LweBatch() = default;
  LweBatch(LweDimension dimension, std::size_t count)
      : dimension(dimension), count(count), words(count * (dimension.value + 1)) {}
  std::span<Torus> row(std::size_t i) {
    return {words.data() + i * (dimension.value + 1), dimension.value + std::size_t{1}};
  }
  std::span<const Torus> row(std::size_t i) const {
    return {words.data() + i * (dimension.value + 1), dimension.value + std::size_t{1}};
  }
};

// Seed of public masks only; secrets and noise never come from it.
using PublicSeed = std::array<std::uint8_t, 16>;

// A batch of fresh ciphertexts in wire form: masks are expanded from the seed, row after row.
struct SeededLweBatch {
  LweDimension dimension;
  PublicSeed seed{};
  std::vector<Torus> bodies;

  friend bool operator==(const SeededLweBatch&, const SeededLweBatch&) = default;
};

LweBatch expand(const SeededLweBatch& seeded);

// Results packed in GLWE ciphertexts (k = 1) of degree N, the dimension, a power of two: N in each,
// the rest in the last. Of m in a ciphertext the i-th is coefficient i N / m', m' = m rounded up to
// a power of two.
struct PackedResults {
  LweDimension dimension;
  std::size_t count = 0;
  AlignedBuffer<Torus> words;  // of each ciphertext its mask, then the bodies of its results

  PackedResults() = default;
  PackedResults(LweDimension dimension, std::size_t count);

  std::size_t ciphertexts() const { return (count + dimension.value - 1) / dimension.value; }
  std::size_t results_of(std::size_t c) const;
  std::size_t stride_of(std::size_t c) const;  // N / m'
  std::span<Torus> mask(std::size_t c);
  std::span<const Torus> mask(std::size_t c) const;
  std::span<Torus> bodies(std::size_t c);
  std::span<const Torus> bodies(std::size_t c) const;

  static std::size_t word_count(LweDimension dimension, std::size_t count);
};

// Evaluation keys in wire form (standard domain, the same on every CPU): seed and bodies.
// bootstrap_bodies: for each step of the blind rotation, for each message m of the step, for each
// level 1..l (factor q/B^level), for each row r in [0, k], the body polynomial of N words of a GLWE
// encryption under the big key of m * (q/B^level) * (r < k ? -S_r : 1). Masks: k polynomials a row,
// from the seed, in that order. A step that consumes bit s has the message s; one that consumes s
// and t has s (1 - t), (1 - s) t and s t. A word is rounded to its upper body_bytes() bytes, which
// are stored from the least significant one.
// keyswitch_bodies: for each bit j of the big key from the small dimension on (the bits before are
// the small key), for each level, one 32-bit body; masks (small
// dimension words of 32 bits) follow from the same seed after the bootstrap masks.
// trace_bodies, where the parameters have a trace: for the automorphisms X -> X^t, t = N / 2^i + 1,
// i = 0 .. log2 N - 1, and level 1..l, the body polynomial of a GLWE encryption of -S(X^t) *
// q/B^level, then, with circuit bootstrapping, for each level of S^2 * q/B^level; masks from the
// same seed after those of the keyswitch key, bytes as in bootstrap_bodies.
struct SeededEvaluationKeys {
  TfheParameters parameters;
  PublicSeed seed{};
  std::vector<std::uint8_t> bootstrap_bodies;
  std::vector<std::uint32_t> keyswitch_bodies;
  std::vector<std::uint8_t> trace_bodies;

  friend bool operator==(const SeededEvaluationKeys&, const SeededEvaluationKeys&) = default;
};

}  // namespace torusml
