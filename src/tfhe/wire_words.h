// Results travel with words that are rounded to the bits that decryption needs.
//
//   round_to_wire(row, 18);                    // a ciphertext: masks, then the body
//   std::vector<std::uint8_t> bytes = pack_words(words, 18);
//   unpack_words(bytes, 18, words);            // words again, their lower 46 bits zero
//
// Rounding needs no key. It adds noise of parameters/wire_noise.h. Thread rule:
// pure functions. Cost: O(words).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "tfhe/types.h"

namespace torusml {

inline constexpr int kWordBits = 64;
// Fewer are not sent, so that nobody who reads results allocates more than eight times what he got.
inline constexpr int kLeastWireBits = 8;

// Rounds every word of one LWE ciphertext to a multiple of 2^(64 - bits). The body takes half the
// sum of the masks' errors, which the mean of a key bit makes of them. bits: 1 to 64; 64 changes
// nothing.
void round_to_wire(std::span<Torus> row, int bits);

// The same for a GLWE ciphertext of degree N = mask.size() of which coefficients 0, stride,
// 2 stride, ... are kept; each body takes half the sum of the masks' errors with the signs that
// they have in its phase.
// bits: as above.
void round_packed_to_wire(std::span<Torus> mask, std::span<Torus> bodies, std::size_t stride,
                          int bits);

// Bytes of so many words of so many bits.
std::size_t packed_bytes(std::size_t words, int bits);
// The upper `bits` bits of each word, one after the other: bit i of the stream is bit i % 8 of byte
// i / 8, a word's least significant of them first. Unused bits of the last byte are zero.
std::vector<std::uint8_t> pack_words(std::span<const Torus> words, int bits);
// The opposite; bytes.size() is packed_bytes(words.size(), bits). False if unused bits are not
// zero.
bool unpack_words(std::span<const std::uint8_t> bytes, int bits, std::span<Torus> words);

}  // namespace torusml
