// Secrets under a passphrase: scrypt makes a key of it, AES-256-GCM encrypts and authenticates.
//
//   Sealed sealed = seal(bits, passphrase, "what belongs to it");
//   SecretBuffer<std::uint8_t> bits = unseal(sealed, passphrase, "what belongs to it");
//
// Thread rule: pure functions. Cost: scrypt takes 128 MiB and some tenths of a second, so that
// guessing passphrases is expensive.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "base/memory.h"

namespace torusml {

using Passphrase = SecretBuffer<std::uint8_t>;
// Called only where a file is sealed.
using PassphraseSource = std::function<Passphrase()>;
Passphrase passphrase_of(std::string_view text);

struct ScryptCost {
  int n_log2 = 17;  // 128 * r * 2^n_log2 bytes of memory
  int r = 8, p = 1;
};
// Bounds of what a file may ask for: 1 GiB, and some seconds.
inline constexpr int kMostScryptLog2 = 20, kMostScryptR = 8, kMostScryptP = 4;

struct Sealed {
  ScryptCost cost;
  std::array<std::uint8_t, 16> salt{};
  std::array<std::uint8_t, 12> nonce{};
  std::vector<std::uint8_t> bytes;  // as many as the secret's, and a tag of 16
};
inline constexpr std::size_t kSealTagBytes = 16;

// `context` is authenticated with it and not stored. Error invalid_argument for an empty
// passphrase.
Sealed seal(std::span<const std::uint8_t> secret, std::span<const std::uint8_t> passphrase,
            std::string_view context, const ScryptCost& cost = {});
// nullopt if the passphrase or the context is another, or the bytes were changed.
std::optional<SecretBuffer<std::uint8_t>> unseal(const Sealed& sealed,
                                                 std::span<const std::uint8_t> passphrase,
                                                 std::string_view context);

}  // namespace torusml
