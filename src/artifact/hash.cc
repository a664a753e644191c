#include "artifact/hash.h"

#include <openssl/evp.h>

#include <algorithm>
#include <vector>

#include "base/threads.h"
#include "torusml/error.h"

namespace torusml {
namespace {

constexpr std::string_view kDigits = "0123456789abcdef";
constexpr std::size_t kShortDigits = 12;
constexpr std::size_t kTreePiece = std::size_t{1} << 20;

void check(int openssl_result) {
  if (openssl_result != 1) throw Error(ErrorCode::internal, "SHA-256 is not available in OpenSSL");
}

}  // namespace

struct Sha256::State {
  EVP_MD_CTX* context = EVP_MD_CTX_new();
  ~State() { EVP_MD_CTX_free(context); }
};

Sha256::Sha256() : state_(std::make_unique<State>()) {
  check(EVP_DigestInit_ex(state_->context, EVP_sha256(), nullptr));
}
Sha256::~Sha256() = default;
Sha256::Sha256(Sha256&&) noexcept = default;
Sha256& Sha256::operator=(Sha256&&) noexcept = default;

void Sha256::update(std::span<const std::uint8_t> bytes) {
  check(EVP_DigestUpdate(state_->context, bytes.data(), bytes.size()));
}

void Sha256::update(std::string_view text) {
  check(EVP_DigestUpdate(state_->context, text.data(), text.size()));
}

Digest Sha256::finish() {
  Digest digest;
  check(EVP_DigestFinal_ex(state_->context, digest.data(), nullptr));
  return digest;
}

Digest sha256(std::span<const std::uint8_t> bytes) {
  Sha256 hash;
  hash.update(bytes);
  return hash.finish();
}

Digest tree_sha256(std::span<const std::uint8_t> bytes) {
  std::vector<Digest> pieces((bytes.size() + kTreePiece - 1) / kTreePiece);
  parallel_for(pieces.size(), [&](std::size_t i) {
    const auto rest = bytes.subspan(i * kTreePiece);
    pieces[i] = sha256(rest.first(std::min(rest.size(), kTreePiece)));
  });
  Sha256 hash;
  for (const Digest& piece : pieces) hash.update(piece);
  return hash.finish();
}

std::string to_hex(std::span<const std::uint8_t> bytes) {
  std::string text;
  for (std::uint8_t byte : bytes) {
    text += kDigits[byte >> 4];
    text += kDigits[byte & 15];
  }
  return text;
}

std::string short_hex(std::span<const std::uint8_t> bytes) {
  return to_hex(bytes).substr(0, kShortDigits);
}

bool from_hex(std::string_view text, std::span<std::uint8_t> bytes) {
  if (text.size() != 2 * bytes.size()) return false;
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    const std::size_t high = kDigits.find(text[2 * i]), low = kDigits.find(text[2 * i + 1]);
    if (high == std::string_view::npos || low == std::string_view::npos) return false;
    bytes[i] = static_cast<std::uint8_t>(16 * high + low);
  }
  return true;
}

std::string to_hex(const ModelHash& hash) {
  return to_hex(std::span<const std::uint8_t>(hash.bytes));
}
std::string to_hex(const KeyId& id) { return to_hex(std::span<const std::uint8_t>(id.bytes)); }
std::string short_hex(const ModelHash& hash) {
  return short_hex(std::span<const std::uint8_t>(hash.bytes));
}
std::string short_hex(const KeyId& id) {
  return short_hex(std::span<const std::uint8_t>(id.bytes));
}

}  // namespace torusml
