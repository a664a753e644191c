#include "tfhe/wire_words.h"

#include <algorithm>

namespace torusml {
namespace {

constexpr int kByteBits = 8;
// Words are cut in two, so that what is held beside a part fits into 64 bits.
constexpr int kHalfBits = 32;
constexpr Torus kHalfMask = 0xffffffff;

}  // namespace

void round_to_wire(std::span<Torus> row, int bits) {
  if (bits >= kWordBits) return;
  const int dropped = kWordBits - bits;
  const Torus half = Torus{1} << (dropped - 1);
  const auto round = [&](Torus word) { return (word + half) >> dropped << dropped; };
  Torus shift = 0;  // half the sum of the errors
  for (Torus& word : row.first(row.size() - 1)) {
    const Torus rounded = round(word);
    shift += static_cast<Torus>(static_cast<std::int64_t>(rounded - word) >> 1);
    word = rounded;
  }
  row.back() = round(row.back() + shift);
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
