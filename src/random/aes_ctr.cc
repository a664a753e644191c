#include "random/aes_ctr.h"

#include <openssl/evp.h>

#include <algorithm>
#include <bit>
#include <cstring>

#include "torusml/error.h"

namespace torusml {

// Words are read from the stream as little-endian bytes; a big-endian port would have to swap them.
static_assert(std::endian::native == std::endian::little);

namespace {

constexpr std::uint64_t kBlock = 16;
constexpr std::size_t kLargestUpdate = std::size_t{1} << 30;  // OpenSSL counts in int

void check(int status) {
  if (status != 1) throw Error(ErrorCode::internal, "AES-128-CTR of the OpenSSL library failed");
}

// The counter is big-endian, as in NIST SP 800-38A.
std::array<std::uint8_t, kBlock> counter_block(std::uint64_t counter) {
  std::array<std::uint8_t, kBlock> block{};
  for (int i = 0; i < 8; ++i) block[15 - i] = static_cast<std::uint8_t>(counter >> (8 * i));
  return block;
}

}  // namespace

void AesCtr::Free::operator()(evp_cipher_ctx_st* context) const noexcept {
  EVP_CIPHER_CTX_free(context);
}

AesCtr::AesCtr(const std::array<std::uint8_t, 16>& key) : context_(EVP_CIPHER_CTX_new()) {
  if (!context_) throw std::bad_alloc();
  const auto counter = counter_block(0);
  check(EVP_EncryptInit_ex(context_.get(), EVP_aes_128_ctr(), nullptr, key.data(), counter.data()));
}

void AesCtr::fill(void* bytes, std::size_t count) {
  auto* out = static_cast<unsigned char*>(bytes);
  while (count > 0) {
    const std::size_t part = std::min(count, kLargestUpdate);
    std::memset(out, 0, part);
    int written = 0;
    check(EVP_EncryptUpdate(context_.get(), out, &written, out, static_cast<int>(part)));
    out += part;
    count -= part;
  }
}

void AesCtr::seek(std::uint64_t byte) {
  const auto counter = counter_block(byte / kBlock);
  check(EVP_EncryptInit_ex(context_.get(), nullptr, nullptr, nullptr, counter.data()));
  std::array<std::uint8_t, kBlock> skipped;
  fill(skipped.data(), byte % kBlock);
}

}  // namespace torusml
