#include "random/generator.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <set>
#include <vector>

#include "base/memory.h"
#include "base/testing/released_secrets.h"
#include "random/aes_ctr.h"
#include "random/gaussian.h"
#include "random/test_seed.h"
#include "torusml/error.h"

namespace torusml {
namespace {

using Words = std::vector<std::uint64_t>;

double centred(std::uint64_t word) { return static_cast<double>(static_cast<std::int64_t>(word)); }

// FIPS 197, appendix C.1, gives AES-128 of a block that our counter reaches by no seek; NIST SP
// 800-38A, F.5.1, starts from another counter. The zero key on the zero block is the classic known
// answer.
TEST(AesCtr, GivesTheKnownAnswerOfTheZeroKey) {
  AesCtr stream({});
  std::array<std::uint8_t, 32> bytes;
  stream.fill(bytes.data(), bytes.size());
  const std::array<std::uint8_t, 16> zero_block = {0x66, 0xe9, 0x4b, 0xd4, 0xef, 0x8a, 0x2c, 0x3b,
                                                   0x88, 0x4c, 0xfa, 0x59, 0xca, 0x34, 0x2b, 0x2e};
  EXPECT_TRUE(std::equal(zero_block.begin(), zero_block.end(), bytes.begin()));
  // AES of the block that holds 1, big-endian.
  const std::array<std::uint8_t, 16> one_block = {0x58, 0xe2, 0xfc, 0xce, 0xfa, 0x7e, 0x30, 0x61,
                                                  0x36, 0x7f, 0x1d, 0x57, 0xa4, 0xe7, 0x45, 0x5a};
  EXPECT_TRUE(std::equal(one_block.begin(), one_block.end(), bytes.begin() + 16));
}

TEST(PublicGenerator, IsOneStreamOfLittleEndianWords) {
  Words whole(40);
  PublicGenerator({1, 2, 3}).fill(whole);
  EXPECT_EQ(std::set<std::uint64_t>(whole.begin(), whole.end()).size(), whole.size());

  PublicGenerator pieces({1, 2, 3});
  std::vector<std::uint32_t> halves(3);
  pieces.fill(halves);
  EXPECT_EQ(halves[0], static_cast<std::uint32_t>(whole[0]));
  EXPECT_EQ(halves[1], static_cast<std::uint32_t>(whole[0] >> 32));
  EXPECT_EQ(halves[2], static_cast<std::uint32_t>(whole[1]));
  halves.resize(1);
  pieces.fill(halves);
  Words rest(38);
  pieces.fill(rest);
  EXPECT_TRUE(std::equal(rest.begin(), rest.end(), whole.begin() + 2));
}

TEST(PublicGenerator, SeeksToAnyByte) {
  std::vector<std::uint8_t> whole(4096);
  PublicGenerator generator({9});
  Words words(whole.size() / 8);
  generator.fill(words);
  std::memcpy(whole.data(), words.data(), whole.size());
  for (const std::size_t byte : {0u, 16u, 4000u, 3u, 20u, 1028u}) {
    generator.seek(byte);
    std::vector<std::uint32_t> found(10);
    generator.fill(found);
    EXPECT_EQ(std::memcmp(found.data(), whole.data() + byte, 40), 0) << byte;
  }
  // Beyond 2^32 blocks.
  Words far(1), again(2);
  generator.seek((std::uint64_t{1} << 37) + 8);
  generator.fill(far);
  generator.seek(std::uint64_t{1} << 37);
  generator.fill(again);
  EXPECT_EQ(far[0], again[1]);
}

TEST(SecretGenerator, DiffersFromEveryOther) {
  SecretGenerator a, b;
  SecretGenerator c = a.split(), d = a.split();
  std::set<std::uint64_t> seen;
  for (SecretGenerator* generator : {&a, &b, &c, &d}) {
    Words words(16);
    generator->fill(words);
    seen.insert(words.begin(), words.end());
  }
  EXPECT_EQ(seen.size(), 64u);
  EXPECT_NE(a.make_public_seed(), a.make_public_seed());
}

TEST(SecretGenerator, TestSeedRepeats) {
  for (int round = 0; round < 2; ++round) {
    Words a(5000), b(5000);
    auto first = TestSeed::make(42), second = TestSeed::make(42);
    if (round == 0) {
      first.fill_gaussian(a, 0x1p-20);
      second.fill_gaussian(b, 0x1p-20);
    } else {
      first.split().fill_binary(a);
      second.split().fill_binary(b);
    }
    EXPECT_EQ(a, b);
    TestSeed::make(43).fill(b);
    EXPECT_NE(a, b);
  }
}

// Parent and child draw from generators that shared their state before the fork.
TEST(SecretGenerator, ReseedsInAForkedChild) {
  SecretGenerator generator;
  SecretGenerator part = generator.split();
  Words before(4);
  generator.fill(before);
  int channel[2];
  ASSERT_EQ(pipe(channel), 0);
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  Words words(8);
  const std::span<std::uint64_t> all(words);
  if (child == 0) {
    generator.fill(all.first(4));
    part.fill(all.last(4));
    const bool written = write(channel[1], words.data(), 64) == 64;
    _exit(written ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_EQ(status, 0);
  Words of_child(8);
  ASSERT_EQ(read(channel[0], of_child.data(), 64), 64);
  close(channel[0]);
  close(channel[1]);
  generator.fill(all.first(4));
  part.fill(all.last(4));
  for (std::size_t i = 0; i < words.size(); ++i) EXPECT_NE(words[i], of_child[i]) << i;
}

TEST(SecretGenerator, BinaryWordsAreFairBits) {
  auto generator = TestSeed::make(1);
  Words bits(200'000);
  generator.fill_binary(bits);
  std::size_t ones = 0, changes = 0;
  for (std::size_t i = 0; i < bits.size(); ++i) {
    ASSERT_LE(bits[i], 1u);
    ones += bits[i];
    if (i > 0) changes += bits[i] ^ bits[i - 1];
  }
  const double five_sigma = 5 * std::sqrt(static_cast<double>(bits.size())) / 2;
  EXPECT_NEAR(static_cast<double>(ones), 100'000, five_sigma);
  EXPECT_NEAR(static_cast<double>(changes), 100'000, five_sigma);
}

class GaussianOfSigma : public testing::TestWithParam<double> {};

TEST_P(GaussianOfSigma, HasTheMomentsAndTails) {
  const double sigma = GetParam(), words_sigma = std::ldexp(sigma, 64);
  auto generator = TestSeed::make(2);
  Words words(400'000);
  generator.fill_gaussian(words, sigma);
  const auto count = static_cast<double>(words.size());
  double sum = 0, square = 0, fourth = 0;
  std::size_t beyond_three = 0;
  for (const auto word : words) {
    const double x = centred(word) / words_sigma;
    sum += x;
    square += x * x;
    fourth += x * x * x * x;
    beyond_three += std::abs(x) > 3;
  }
  // Rounding to integers adds 1/12 to the variance of the words.
  const double variance = 1 + 1 / (12 * words_sigma * words_sigma);
  EXPECT_NEAR(sum / count, 0, 5 / std::sqrt(count));
  EXPECT_NEAR(square / count, variance, 5 * std::sqrt(2 / count) * variance);
  EXPECT_NEAR(fourth / count, 3 * variance * variance, 5 * std::sqrt(96 / count) * 1.1);
  if (words_sigma > 1000) {
    EXPECT_NEAR(static_cast<double>(beyond_three), 0.0026998 * count,
                5 * std::sqrt(0.0027 * count));
  }
  // No correlation between neighbours, nor between the halves of a chunk.
  for (const std::size_t lag : {1u, 1024u}) {
    double product = 0;
    for (std::size_t i = lag; i < words.size(); ++i) {
      product += centred(words[i]) / words_sigma * centred(words[i - lag]) / words_sigma;
    }
    EXPECT_NEAR(product / count, 0, 5 / std::sqrt(count) * variance);
  }
}

INSTANTIATE_TEST_SUITE_P(Sigmas, GaussianOfSigma,
                         testing::Values(0x1p-62, 0x1p-50, 0x1p-24, 0x1p-17, 0x1p-8));

TEST(Gaussian, MatchesTheFormulaEverywhere) {
  // Radii from the smallest uniform word (9.49 sigma) to the largest.
  const std::vector<std::uint64_t> radii = {0,
                                            1,
                                            12345,
                                            std::uint64_t{1} << 20,
                                            (std::uint64_t{1} << 32) - 1,
                                            std::uint64_t{1} << 52,
                                            std::uint64_t{3} << 60,
                                            ~std::uint64_t{0}};
  const std::size_t pairs = 16;
  for (const double sigma : {4.0, 0x1p40, 0x1p56}) {
    for (const std::uint64_t radius : radii) {
      Words uniform(2 * pairs, radius), words(2 * pairs);
      for (std::size_t i = 0; i < pairs; ++i) uniform[pairs + i] = i << 60 | 0x123456789abcdefull;
      uniform_to_gaussian(uniform.data(), pairs, sigma, words.data());
      for (std::size_t i = 0; i < pairs; ++i) {
        // A double, as in the kernel: the largest words all give 1, a radius of 0.
        const auto u = static_cast<double>((static_cast<long double>(radius) + 0.5L) * 0x1p-64L);
        const long double angle =
            (static_cast<long double>(uniform[pairs + i] >> 12) * 0x1p-52L - 0.5L) * 2 * M_PIl;
        const long double r = std::sqrt(-2 * std::log(static_cast<long double>(u))) * sigma;
        const double bound = 0.5 + 4e-15 * 10 * sigma;
        EXPECT_NEAR(centred(words[i]), static_cast<double>(r * std::cos(angle)), bound);
        EXPECT_NEAR(centred(words[pairs + i]), static_cast<double>(r * std::sin(angle)), bound);
      }
    }
  }
  Words uniform(2 * pairs), words(2 * pairs);  // angle 0 is -half a turn
  uniform_to_gaussian(uniform.data(), pairs, 0x1p40, words.data());
  EXPECT_NEAR(centred(words[0]), -9.4934 * 0x1p40, 1e-3 * 0x1p40);
}

TEST(Gaussian, RefusesSigmasOutsideItsRange) {
  SecretGenerator generator;
  Words words(4);
  for (const double sigma : {-1e-3, 0.04, 1.0, std::nan(""), HUGE_VAL}) {
    try {
      generator.fill_gaussian(words, sigma);
      FAIL() << sigma;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::invalid_argument);
      EXPECT_NE(error.message().find("deviation"), std::string::npos);
    }
  }
  generator.fill_gaussian(words, 0);
  EXPECT_EQ(words, Words(4, 0));
}

TEST(SecretGenerator, WipesItsScratch) {
  const ReleasedSecrets released;
  {
    auto generator = TestSeed::make(3);
    Words words(100);
    generator.fill_gaussian(words, 0x1p-20);
  }
  EXPECT_GT(released.bytes(), 0u);
  EXPECT_EQ(released.not_zero(), 0u);
}

}  // namespace
}  // namespace torusml
