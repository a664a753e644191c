#include "artifact/sealing.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "torusml/error.h"

namespace torusml {
namespace {

constexpr ScryptCost kCheap{.n_log2 = 4};

std::span<const std::uint8_t> bytes(std::string_view text) {
  return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()};
}

std::string text(const SecretBuffer<std::uint8_t>& secret) {
  return {reinterpret_cast<const char*>(secret.data()), secret.size()};
}

TEST(Sealing, WhatIsSealedIsUnsealed) {
  const Sealed sealed = seal(bytes("the key's bits"), bytes("open sesame"), "whose it is", kCheap);
  EXPECT_EQ(sealed.bytes.size(), 14 + kSealTagBytes);
  const auto secret = unseal(sealed, bytes("open sesame"), "whose it is");
  ASSERT_TRUE(secret);
  EXPECT_EQ(text(*secret), "the key's bits");
}

TEST(Sealing, AnythingElseDoesNotOpenIt) {
  const Sealed sealed = seal(bytes("bits"), bytes("open sesame"), "mine", kCheap);
  EXPECT_FALSE(unseal(sealed, bytes("open sesam"), "mine"));
  EXPECT_FALSE(unseal(sealed, bytes(""), "mine"));
  EXPECT_FALSE(unseal(sealed, bytes("open sesame"), "yours"));
  for (std::size_t i = 0; i < sealed.bytes.size(); ++i) {
    Sealed changed = sealed;
    changed.bytes[i] ^= 1;
    EXPECT_FALSE(unseal(changed, bytes("open sesame"), "mine")) << i;
  }
  Sealed changed = sealed;
  changed.salt[0] ^= 1;
  EXPECT_FALSE(unseal(changed, bytes("open sesame"), "mine"));
  changed = sealed;
  changed.nonce[0] ^= 1;
  EXPECT_FALSE(unseal(changed, bytes("open sesame"), "mine"));
  changed = sealed;
  changed.cost.n_log2 = 5;
  EXPECT_FALSE(unseal(changed, bytes("open sesame"), "mine"));
}

TEST(Sealing, IsNeverTheSameTwice) {
  const Sealed a = seal(bytes("bits"), bytes("pass"), "", kCheap),
               b = seal(bytes("bits"), bytes("pass"), "", kCheap);
  EXPECT_NE(a.salt, b.salt);
  EXPECT_NE(a.nonce, b.nonce);
  EXPECT_NE(a.bytes, b.bytes);
}

TEST(Sealing, NeedsAPassphrase) {
  try {
    seal(bytes("bits"), {}, "", kCheap);
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::invalid_argument);
  }
}

TEST(Sealing, OtherCostsAreRead) {
  const ScryptCost most{.n_log2 = 10, .r = kMostScryptR, .p = kMostScryptP};
  EXPECT_TRUE(unseal(seal(bytes("bits"), bytes("pass"), "", most), bytes("pass"), ""));
}

}  // namespace
}  // namespace torusml
