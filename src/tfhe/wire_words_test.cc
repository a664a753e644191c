#include "tfhe/wire_words.h"

#include <gtest/gtest.h>

#include <random>

namespace torusml {
namespace {

std::vector<Torus> random_words(std::size_t count) {
  std::mt19937_64 random(1);
  std::vector<Torus> words(count);
  for (Torus& word : words) word = random();
  return words;
}

TEST(WireWords, RoundsToTheNearestAndMovesTheBody) {
  // Errors of the masks: -3 and +5 of 16ths; half their sum goes to the body before it is rounded.
  std::vector<Torus> row{(Torus{0x12} << 56) + (Torus{3} << 52),
                         (Torus{0x20} << 56) - (Torus{5} << 52),
                         (Torus{0x7f} << 56) + (Torus{8} << 52)};
  round_to_wire(row, 8);
  EXPECT_EQ(row, (std::vector<Torus>{Torus{0x12} << 56, Torus{0x20} << 56, Torus{0x80} << 56}));
  row = {Torus{3} << 52, (Torus{0x7f} << 56) + (Torus{8} << 52)};
  round_to_wire(row, 8);  // -1.5 16ths: below the half now
  EXPECT_EQ(row.back(), Torus{0x7f} << 56);
}

// Errors of the mask: -3, 5 and -2 of 16ths, then none. Of the body at coefficient 0 the first
// counts as it is and the others negated, at coefficient 2 the first three as they are: 0.5 * (-3 -
// 5 + 2) and 0.5 * (-3 + 5 - 2).
TEST(WireWords, RoundedPolynomialsMoveTheirBodies) {
  const auto word = [](int upper, int sixteenths) {
    return (static_cast<Torus>(upper) << 56) + (static_cast<Torus>(sixteenths) << 52);
  };
  std::vector<Torus> mask{word(0x12, 3), word(0x20, -5), word(0x30, 2), word(0x40, 0)};
  std::vector<Torus> bodies{word(0x50, 10), word(0x60, 8)};
  round_packed_to_wire(mask, bodies, 2, 8);
  EXPECT_EQ(mask, (std::vector<Torus>{word(0x12, 0), word(0x20, 0), word(0x30, 0), word(0x40, 0)}));
  EXPECT_EQ(bodies, (std::vector<Torus>{word(0x50, 0), word(0x61, 0)}));
}

TEST(WireWords, SixtyFourBitsChangeNothing) {
  std::vector<Torus> words = random_words(33);
  const std::vector<Torus> before = words;
  round_to_wire(words, 64);
  EXPECT_EQ(words, before);
}

TEST(WireWords, ErrorsStayWithinHalfAStep) {
  for (const int bits : {1, 12, 31, 63}) {
    const std::vector<Torus> before = random_words(50);
    std::vector<Torus> words = before;
    round_to_wire(words, bits);
    for (std::size_t i = 0; i + 1 < words.size(); ++i) {
      const auto error = static_cast<std::int64_t>(words[i] - before[i]);
      EXPECT_LE(error < 0 ? -static_cast<Torus>(error) : static_cast<Torus>(error),
                Torus{1} << (63 - bits));
    }
    for (const Torus word : words) EXPECT_EQ(word << bits, 0u);
  }
}

TEST(WireWords, PackedWordsComeBack) {
  for (int bits = 1; bits <= 64; ++bits) {
    for (const std::size_t count : {0u, 1u, 7u, 64u}) {
      std::vector<Torus> words = random_words(count);
      for (Torus& word : words) word = word >> (64 - bits) << (64 - bits);
      std::vector<std::uint8_t> bytes = pack_words(words, bits);
      ASSERT_EQ(bytes.size(), packed_bytes(count, bits));
      std::vector<Torus> back(count);
      EXPECT_TRUE(unpack_words(bytes, bits, back));
      EXPECT_EQ(back, words) << bits;
      if (count * static_cast<std::size_t>(bits) % 8 == 0) continue;
      bytes.back() |= 0x80;
      EXPECT_FALSE(unpack_words(bytes, bits, back)) << bits;
    }
  }
}

}  // namespace
}  // namespace torusml
