// SHA-256, and the ids that are made of hashes and random bytes.
//
//   Sha256 hash;
//   hash.update(bytes);
//   Digest digest = hash.finish();
//   std::string text = to_hex(digest);      // 64 hexadecimal digits
//   std::string label = short_hex(digest);  // the first 12, for people
//
// Thread rule: one Sha256 per thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace torusml {

using Digest = std::array<std::uint8_t, 32>;

class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(Sha256&&) noexcept;
  Sha256& operator=(Sha256&&) noexcept;

  void update(std::span<const std::uint8_t> bytes);
  void update(std::string_view text);
  Digest finish();  // once

 private:
  struct State;
  std::unique_ptr<State> state_;
};

Digest sha256(std::span<const std::uint8_t> bytes);
// SHA-256 of the SHA-256 of each MiB, one after the other; parallel.
Digest tree_sha256(std::span<const std::uint8_t> bytes);

std::string to_hex(std::span<const std::uint8_t> bytes);
std::string short_hex(std::span<const std::uint8_t> bytes);
// False unless text is exactly two lower-case digits per byte of `bytes`.
bool from_hex(std::string_view text, std::span<std::uint8_t> bytes);

// Names a compiled model: SHA-256 over its sections, before compression.
struct ModelHash {
  Digest bytes{};
  friend bool operator==(const ModelHash&, const ModelHash&) = default;
};

// Names one key set: random, public, the same in its secret key, evaluation keys and ciphertexts.
struct KeyId {
  std::array<std::uint8_t, 16> bytes{};
  friend bool operator==(const KeyId&, const KeyId&) = default;
};

std::string to_hex(const ModelHash& hash);
std::string to_hex(const KeyId& id);
std::string short_hex(const ModelHash& hash);
std::string short_hex(const KeyId& id);

}  // namespace torusml
