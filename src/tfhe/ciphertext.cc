#include "tfhe/ciphertext.h"

#include <algorithm>
#include <bit>

#include "tfhe/expand_rows.h"

namespace torusml {

LweBatch expand(const SeededLweBatch& seeded) {
  return expand_rows(seeded, 0, seeded.bodies.size());
}

PackedResults::PackedResults(LweDimension dimension, std::size_t count)
    : dimension(dimension), count(count), words(word_count(dimension, count)) {}

std::size_t PackedResults::results_of(std::size_t c) const {
  return std::min<std::size_t>(dimension.value, count - c * dimension.value);
}

std::size_t PackedResults::stride_of(std::size_t c) const {
  return dimension.value / std::bit_ceil(results_of(c));
}

// All ciphertexts before this one are full.
std::span<Torus> PackedResults::mask(std::size_t c) {
  return {words.data() + 2 * c * dimension.value, dimension.value};
}
std::span<const Torus> PackedResults::mask(std::size_t c) const {
  return {words.data() + 2 * c * dimension.value, dimension.value};
}
std::span<Torus> PackedResults::bodies(std::size_t c) {
  return {words.data() + (2 * c + 1) * dimension.value, results_of(c)};
}
std::span<const Torus> PackedResults::bodies(std::size_t c) const {
  return {words.data() + (2 * c + 1) * dimension.value, results_of(c)};
}

std::size_t PackedResults::word_count(LweDimension dimension, std::size_t count) {
  const std::size_t ciphertexts = (count + dimension.value - 1) / dimension.value;
  return ciphertexts * dimension.value + count;
}

}  // namespace torusml
