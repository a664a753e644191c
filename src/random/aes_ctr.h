// AES-128 in counter mode as a stream of bytes with random access. State is wiped by OpenSSL when
// freed. Thread rule: one object per thread. Cost: about a nanosecond for 4 bytes with AES
// instructions.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>

struct evp_cipher_ctx_st;

namespace torusml {

class AesCtr {
 public:
  explicit AesCtr(const std::array<std::uint8_t, 16>& key);

  void fill(void* bytes, std::size_t count);
  void seek(std::uint64_t byte);

 private:
  struct Free {
    void operator()(evp_cipher_ctx_st* context) const noexcept;
  };
  std::unique_ptr<evp_cipher_ctx_st, Free> context_;
};

}  // namespace torusml
