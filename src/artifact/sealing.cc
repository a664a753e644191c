#include "artifact/sealing.h"

#include <openssl/evp.h>
#include <openssl/rand.h>

#include <algorithm>
#include <memory>

#include "torusml/error.h"

namespace torusml {
namespace {

constexpr std::size_t kKeyBytes = 32;
constexpr std::uint64_t kSpareMemory = std::uint64_t{1} << 20;  // beside scrypt's own table

struct FreeContext {
  void operator()(EVP_CIPHER_CTX* context) const { EVP_CIPHER_CTX_free(context); }
};
using CipherContext = std::unique_ptr<EVP_CIPHER_CTX, FreeContext>;

void expect(bool done, const char* what) {
  if (!done) throw Error(ErrorCode::internal, std::string("OpenSSL fails: ") + what);
}

SecretBuffer<std::uint8_t> derive_key(std::span<const std::uint8_t> passphrase,
                                      const Sealed& sealed) {
  const std::uint64_t n = std::uint64_t{1} << sealed.cost.n_log2;
  const auto r = static_cast<std::uint64_t>(sealed.cost.r),
             p = static_cast<std::uint64_t>(sealed.cost.p);
  SecretBuffer<std::uint8_t> key(kKeyBytes);
  expect(EVP_PBE_scrypt(reinterpret_cast<const char*>(passphrase.data()), passphrase.size(),
                        sealed.salt.data(), sealed.salt.size(), n, r, p,
                        128 * r * (n + p) + kSpareMemory, key.data(), key.size()) == 1,
         "scrypt");
  return key;
}

// Encrypts or decrypts all of `in`; the caller adds or checks the tag.
CipherContext run_gcm(bool encrypts, const SecretBuffer<std::uint8_t>& key, const Sealed& sealed,
                      std::string_view aad, std::span<const std::uint8_t> in, std::uint8_t* out) {
  CipherContext context(EVP_CIPHER_CTX_new());
  expect(context != nullptr, "no cipher context");
  int size = 0;
  expect(EVP_CipherInit_ex(context.get(), EVP_aes_256_gcm(), nullptr, key.data(),
                           sealed.nonce.data(), encrypts ? 1 : 0) == 1,
         "AES-GCM key");
  expect(EVP_CipherUpdate(context.get(), nullptr, &size,
                          reinterpret_cast<const std::uint8_t*>(aad.data()),
                          static_cast<int>(aad.size())) == 1,
         "AES-GCM context");
  expect(EVP_CipherUpdate(context.get(), out, &size, in.data(), static_cast<int>(in.size())) == 1,
         "AES-GCM");
  return context;
}

}  // namespace

Passphrase passphrase_of(std::string_view text) {
  Passphrase passphrase(text.size());
  std::ranges::copy(text, passphrase.data());
  return passphrase;
}

Sealed seal(std::span<const std::uint8_t> secret, std::span<const std::uint8_t> passphrase,
            std::string_view context, const ScryptCost& cost) {
  if (passphrase.empty())
    throw Error(ErrorCode::invalid_argument, "the passphrase is empty", "passphrase");
  Sealed sealed{.cost = cost, .bytes = std::vector<std::uint8_t>(secret.size() + kSealTagBytes)};
  expect(RAND_bytes(sealed.salt.data(), static_cast<int>(sealed.salt.size())) == 1 &&
             RAND_bytes(sealed.nonce.data(), static_cast<int>(sealed.nonce.size())) == 1,
         "random bytes");
  const SecretBuffer<std::uint8_t> key = derive_key(passphrase, sealed);
  const CipherContext cipher = run_gcm(true, key, sealed, context, secret, sealed.bytes.data());
  int size = 0;
  std::uint8_t* tag = sealed.bytes.data() + secret.size();
  expect(EVP_CipherFinal_ex(cipher.get(), tag, &size) == 1, "AES-GCM");
  expect(EVP_CIPHER_CTX_ctrl(cipher.get(), EVP_CTRL_GCM_GET_TAG, kSealTagBytes, tag) == 1,
         "AES-GCM tag");
  return sealed;
}

std::optional<SecretBuffer<std::uint8_t>> unseal(const Sealed& sealed,
                                                 std::span<const std::uint8_t> passphrase,
                                                 std::string_view context) {
  const std::size_t bytes = sealed.bytes.size() - kSealTagBytes;
  const SecretBuffer<std::uint8_t> key = derive_key(passphrase, sealed);
  SecretBuffer<std::uint8_t> secret(bytes);
  const CipherContext cipher =
      run_gcm(false, key, sealed, context, std::span(sealed.bytes).first(bytes), secret.data());
  std::array<std::uint8_t, kSealTagBytes> tag;
  std::ranges::copy(std::span(sealed.bytes).last(kSealTagBytes), tag.begin());
  expect(EVP_CIPHER_CTX_ctrl(cipher.get(), EVP_CTRL_GCM_SET_TAG, kSealTagBytes, tag.data()) == 1,
         "AES-GCM tag");
  int size = 0;
  std::uint8_t rest[kSealTagBytes];
  if (EVP_CipherFinal_ex(cipher.get(), rest, &size) != 1) return std::nullopt;
  return secret;
}

}  // namespace torusml
