#include "tfhe/wire_words.h"

#include <algorithm>

namespace torusml {
namespace {

constexpr int kByteBits = 8;
// Words are cut in two, so that what is held beside a part fits into 64 bits.
constexpr int kHalfBits = 32;
constexpr Torus kHalfMask = 0xffffffff;

Torus round_word(Torus word, int bits) {
  const int dropped = kWordBits - bits;
  return (word + (Torus{1} << (dropped - 1))) >> dropped << dropped;
}

// Rounds a word of a mask; gives half the error.
Torus round_half_error(Torus& word, int bits) {
  const Torus rounded = round_word(word, bits);
  const auto error = static_cast<std::int64_t>(rounded - word);
  word = rounded;
  return static_cast<Torus>(error >> 1);
}

}  // namespace

void round_to_wire(std::span<Torus> row, int bits) {
  if (bits >= kWordBits) return;
  Torus shift = 0;  // half the sum of the errors
  for (Torus& word : row.first(row.size() - 1)) shift += round_half_error(word, bits);
  row.back() = round_word(row.back() + shift, bits);
}

// Coefficient j of mask times key has words 0 .. j with a positive sign, the others with a negative
// one.
void round_packed_to_wire(std::span<Torus> mask, std::span<Torus> bodies, std::size_t stride,
                          int bits) {
  if (bits >= kWordBits) return;
  std::vector<Torus> errors;  // halves
  errors.reserve(mask.size());
  Torus shift = 0;
  for (Torus& word : mask) {
    errors.push_back(round_half_error(word, bits));
    shift -= errors.back();
  }
  std::size_t added = 0;  // words whose sign is positive
  for (std::size_t i = 0; i < bodies.size(); ++i) {
    for (; added <= i * stride; ++added) shift += 2 * errors[added];
    bodies[i] = round_word(bodies[i] + shift, bits);
  }
}

std::size_t packed_bytes(std::size_t words, int bits) {
  return (words * static_cast<std::size_t>(bits) + kByteBits - 1) / kByteBits;
}

std::vector<std::uint8_t> pack_words(std::span<const Torus> words, int bits) {
  std::vector<std::uint8_t> bytes;
  bytes.reserve(packed_bytes(words.size(), bits));
  std::uint64_t held = 0;  // bits that are no byte yet
  int count = 0;
  const auto put = [&](std::uint64_t value, int width) {
    held |= value << count;
    for (count += width; count >= kByteBits; count -= kByteBits, held >>= kByteBits)
      bytes.push_back(static_cast<std::uint8_t>(held));
  };
  const int low = std::min(bits, kHalfBits);
  for (const Torus word : words) {
    const Torus value = word >> (kWordBits - bits);
    put(value & kHalfMask, low);
    if (bits > low) put(value >> low, bits - low);
  }
  if (count > 0) bytes.push_back(static_cast<std::uint8_t>(held));
  return bytes;
}

bool unpack_words(std::span<const std::uint8_t> bytes, int bits, std::span<Torus> words) {
  std::uint64_t held = 0;
  int count = 0;
  auto next = bytes.begin();
  const auto take = [&](int width) {
    for (; count < width; count += kByteBits) held |= std::uint64_t{*next++} << count;
    const std::uint64_t value = held & ((std::uint64_t{1} << width) - 1);
    held >>= width;
    count -= width;
    return value;
  };
  const int low = std::min(bits, kHalfBits);
  for (Torus& word : words) {
    Torus value = take(low);
    if (bits > low) value |= take(bits - low) << low;
    word = value << (kWordBits - bits);
  }
  return held == 0;
}

}  // namespace torusml
