#include "tfhe/result_packing.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>

#include "base/memory.h"
#include "base/threads.h"
#include "tfhe/automorphism_keyswitch.h"
#include "tfhe/wire_words.h"
#include "torusml/error.h"

namespace torusml {
namespace {

constexpr std::size_t kColumns = 2;       // mask and body
constexpr std::size_t kSerialLevels = 4;  // trees of more levels are divided among threads

std::size_t log2_of(std::size_t power) { return static_cast<std::size_t>(std::countr_zero(power)); }

// A result as a GLWE ciphertext with its phase / N in coefficient 0; the other coefficients are
// arbitrary. What the rounded words lack to the phase is a multiple of q / N, which the N-fold
// phase does not see; the lowest bits of a word are kept there, so that the mask stays uniform.
void load(std::span<const Torus> row, std::size_t size, Torus* glwe) {
  const std::size_t bits = log2_of(size);
  const auto divide = [&](Torus word) {
    return ((word + (Torus{1} << (bits - 1))) >> bits) + (word << (kWordBits - bits));
  };
  glwe[0] = divide(row[0]);
  for (std::size_t j = 1; j < size; ++j) glwe[size - j] = 0 - divide(row[j]);
  std::fill_n(glwe + size, size, Torus{0});
  glwe[size] = divide(row[size]);
}

// even, odd = even + X^shift odd, even - X^shift odd, polynomial by polynomial.
void combine(Torus* even, Torus* odd, std::size_t size, std::size_t shift, Torus* scratch) {
  for (std::size_t p = 0; p < kColumns; ++p, even += size, odd += size) {
    for (std::size_t j = 0; j < shift; ++j) scratch[j] = 0 - odd[size - shift + j];
    std::copy_n(odd, size - shift, scratch + shift);
    for (std::size_t j = 0; j < size; ++j) {
      odd[j] = even[j] - scratch[j];
      even[j] += scratch[j];
    }
  }
}

// Packs results first .. first + count - 1, at most N, into one ciphertext.
class Packer {
 public:
  Packer(const EvaluationKeys::State& keys, const LweBatch& results, std::size_t first,
         std::size_t count)
      : keys_(keys),
        results_(results),
        first_(first),
        count_(count),
        levels_(log2_of(std::bit_ceil(count))) {}

  void run(Torus* glwe) const {
    AutomorphismKeyswitch keyswitch(keys_, 1);
    pack(0, 0, keyswitch, glwe);
    for (std::size_t level = levels_ + 1; level <= log2_of(keys_.size()); ++level)
      keyswitch.add_images(level, glwe, 1, glwe);
  }

 private:
  // Results index, index + 2^depth, ...: a tree whose leaves are single ones.
  void pack(std::size_t index, std::size_t depth, AutomorphismKeyswitch& keyswitch,
            Torus* glwe) const {
    const std::size_t size = keys_.size(), level = levels_ - depth;
    if (level == 0) return load(results_.row(first_ + index), size, glwe);
    const std::size_t partner = index + (std::size_t{1} << depth);
    if (partner >= count_) {
      pack(index, depth + 1, keyswitch, glwe);
      return keyswitch.add_images(level, glwe, 1, glwe);
    }
    AlignedBuffer<Torus> odd(kColumns * size), scratch(size);
    if (level > kSerialLevels) {
      parallel_for(2, [&](std::size_t half) {
        AutomorphismKeyswitch own(keys_, 1);
        pack(half == 0 ? index : partner, depth + 1, own, half == 0 ? glwe : odd.data());
      });
    } else {
      pack(index, depth + 1, keyswitch, glwe);
      pack(partner, depth + 1, keyswitch, odd.data());
    }
    combine(glwe, odd.data(), size, size >> level, scratch.data());
    keyswitch.add_images(level, odd.data(), 1, glwe);
  }

  const EvaluationKeys::State& keys_;
  const LweBatch& results_;
  const std::size_t first_, count_, levels_;
};

void check(const TfheParameters& parameters, const LweBatch& results) {
  if (!parameters.has_trace())
    throw Error(ErrorCode::wrong_key, "the evaluation keys have no trace", "packing of results");
  if (results.dimension == parameters.big_dimension()) return;
  throw Error(ErrorCode::wrong_key,
              fmt::format("results of dimension {} under keys of dimension {}",
                          results.dimension.value, parameters.big_dimension().value),
              "packing of results");
}

}  // namespace

PackedResults pack_results(const EvaluationKeys& keys, const LweBatch& results, int wire_bits) {
  check(keys.parameters(), results);
  PackedResults packed(results.dimension, results.count);
  const std::size_t size = results.dimension.value;
  parallel_for(packed.ciphertexts(), [&](std::size_t c) {
    AlignedBuffer<Torus> glwe(kColumns * size);
    Packer(keys.state(), results, c * size, packed.results_of(c)).run(glwe.data());
    const std::span<Torus> mask = packed.mask(c), bodies = packed.bodies(c);
    std::copy_n(glwe.data(), size, mask.data());
    const std::size_t stride = packed.stride_of(c);
    for (std::size_t i = 0; i < bodies.size(); ++i) bodies[i] = glwe[size + i * stride];
    round_packed_to_wire(mask, bodies, stride, wire_bits);
  });
  return packed;
}

}  // namespace torusml
