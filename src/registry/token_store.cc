#include "registry/token_store.h"

#include <fmt/format.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/rand.h>

#include <algorithm>
#include <array>

#include "artifact/files.h"

namespace torusml {
namespace {

// "tml_", the id, "_", the secret in base64url.
constexpr std::string_view kPrefix = "tml_";
constexpr std::size_t kIdBytes = 8, kSecretBytes = 32;
constexpr std::size_t kIdSize = 2 * kIdBytes, kSecretSize = 43;
constexpr std::size_t kModelNameSize = 128;
constexpr std::int64_t kLongestValidity = std::int64_t{1000} * 366 * 24 * 3600;

template <std::size_t size>
std::array<std::uint8_t, size> random_bytes() {
  std::array<std::uint8_t, size> bytes;
  if (RAND_bytes(bytes.data(), size) != 1)
    throw Error(ErrorCode::internal, "the system gives no random bytes");
  return bytes;
}

std::string base64url(const std::array<std::uint8_t, kSecretBytes>& bytes) {
  std::array<std::uint8_t, 4 * ((kSecretBytes + 2) / 3) + 1> text;
  EVP_EncodeBlock(text.data(), bytes.data(), kSecretBytes);
  std::string result(text.begin(), text.begin() + kSecretSize);  // without the padding
  std::ranges::replace(result, '+', '-');
  std::ranges::replace(result, '/', '_');
  return result;
}

void check_settings(const TokenSettings& settings) {
  check_tenant(settings.tenant);
  for (const std::string& model : settings.models) {
    if (is_name(model, kModelNameSize)) continue;
    throw Error(ErrorCode::invalid_argument,
                fmt::format("'{}' is no model's name: these have 1 to {} letters, digits, '-', '_' "
                            "and '.'",
                            model, kModelNameSize),
                "models");
  }
  if (!settings.valid_for) return;
  const std::int64_t seconds = settings.valid_for->count();
  if (seconds < 1 || seconds > kLongestValidity) {
    throw Error(ErrorCode::invalid_argument,
                fmt::format("a token is valid for 1 to {} s, not {}", kLongestValidity, seconds),
                "valid_for");
  }
}

[[noreturn]] void refuse(const char* what) {
  throw Error(ErrorCode::unauthorized, what, "", "a token that the operator made for you");
}

}  // namespace

NewToken TokenStore::add(const TokenSettings& settings) {
  check_settings(settings);
  std::array<std::uint8_t, kSecretBytes> random = random_bytes<kSecretBytes>();
  std::string secret = base64url(random);
  OPENSSL_cleanse(random.data(), random.size());
  const Digest digest = sha256(as_bytes(secret));
  NewToken token;
  token.id = to_hex(random_bytes<kIdBytes>());
  token.text = fmt::format("{}{}_{}", kPrefix, token.id, secret);
  OPENSSL_cleanse(secret.data(), secret.size());
  const std::int64_t now = core_.now();
  std::optional<std::int64_t> expires;
  if (settings.valid_for) expires = now + settings.valid_for->count();

  const std::lock_guard lock(core_.mutex);
  Database& database = core_.database;
  Transaction transaction(database);
  database.run("INSERT INTO tokens(id, secret_sha256, tenant, created, expires) VALUES (?,?,?,?,?)",
               token.id, std::span<const std::uint8_t>(digest), settings.tenant, now, expires);
  for (const std::string& model : settings.models)
    database.run("INSERT OR IGNORE INTO token_models VALUES (?, ?)", token.id, model);
  transaction.commit();
  return token;
}

bool TokenStore::revoke(const std::string& id) {
  const std::lock_guard lock(core_.mutex);
  Transaction transaction(core_.database);
  const bool is_there =
      core_.database.run("UPDATE tokens SET is_revoked = 1 WHERE id = ?", id) == 1;
  transaction.commit();
  return is_there;
}

std::vector<std::string> TokenStore::models_of(const std::string& id) {
  std::vector<std::string> models;
  Query rows =
      core_.database.query("SELECT model FROM token_models WHERE token = ? ORDER BY model", id);
  while (rows.next()) models.push_back(rows.text(0));
  return models;
}

std::vector<TokenRecord> TokenStore::all() {
  const std::lock_guard lock(core_.mutex);
  std::vector<TokenRecord> tokens;
  Query rows = core_.database.query(
      "SELECT id, tenant, created, expires, is_revoked FROM tokens ORDER BY created, id");
  while (rows.next()) {
    TokenRecord token{.id = rows.text(0),
                      .tenant = rows.text(1),
                      .models = models_of(rows.text(0)),
                      .created = rows.integer(2),
                      .is_revoked = rows.integer(4) != 0};
    if (!rows.is_null(3)) token.expires = rows.integer(3);
    tokens.push_back(std::move(token));
  }
  return tokens;
}

bool TokenStore::has_valid_ones() {
  const std::lock_guard lock(core_.mutex);
  Query rows = core_.database.query(
      "SELECT 1 FROM tokens WHERE is_revoked = 0 AND (expires IS NULL OR expires > ?) LIMIT 1",
      core_.now());
  return rows.next();
}

Identity TokenStore::authenticate(std::string_view token) {
  constexpr const char* kUnknown = "the token is not known";
  const std::size_t secret_at = kPrefix.size() + kIdSize + 1;
  if (token.size() != secret_at + kSecretSize || !token.starts_with(kPrefix) ||
      token[secret_at - 1] != '_')
    refuse(kUnknown);
  const std::string id(token.substr(kPrefix.size(), kIdSize));
  const Digest digest = sha256(as_bytes(token.substr(secret_at)));

  const std::lock_guard lock(core_.mutex);
  Query rows = core_.database.query(
      "SELECT secret_sha256, tenant, expires, is_revoked FROM tokens WHERE id = ?", id);
  if (!rows.next()) refuse(kUnknown);
  const std::string expected = rows.blob(0);
  if (expected.size() != digest.size() ||
      CRYPTO_memcmp(expected.data(), digest.data(), digest.size()) != 0)
    refuse(kUnknown);
  if (rows.integer(3) != 0) refuse("the token was revoked");
  if (!rows.is_null(2) && rows.integer(2) <= core_.now()) refuse("the token has expired");
  return {rows.text(1), models_of(id)};
}

bool Identity::may_see(std::string_view model) const {
  return models.empty() || std::ranges::find(models, model) != models.end();
}

}  // namespace torusml
