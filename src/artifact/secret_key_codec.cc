#include <fmt/format.h>

#include <algorithm>

#include "artifact/codecs.h"
#include "artifact/json_fields.h"
#include "artifact/key_writer.h"
#include "artifact/provenance.h"

namespace torusml {
namespace {

constexpr std::size_t kByteBits = 8;
constexpr const char* kSealing = "scrypt-aes256gcm";

// Bit i of a key goes to bit i % 8 of byte i / 8.
SecretBuffer<std::uint8_t> pack(const SecretBuffer<std::uint64_t>& bits) {
  SecretBuffer<std::uint8_t> packed((bits.size() + kByteBits - 1) / kByteBits);
  for (std::size_t i = 0; i < bits.size(); ++i) {
    packed[i / kByteBits] =
        static_cast<std::uint8_t>(packed[i / kByteBits] | (bits[i] & 1) << (i % kByteBits));
  }
  return packed;
}

SecretBuffer<std::uint64_t> unpack(const ContainerReader& reader, const std::string& section,
                                   const SecretBuffer<std::uint8_t>& packed, std::size_t count) {
  SecretBuffer<std::uint64_t> bits(count);
  for (std::size_t i = 0; i < count; ++i) bits[i] = packed[i / kByteBits] >> (i % kByteBits) & 1;
  for (std::size_t i = count; i < packed.size() * kByteBits; ++i) {
    if ((packed[i / kByteBits] >> (i % kByteBits) & 1) != 0)
      reader.corrupt(section, "bits follow the key");
  }
  return bits;
}

// What a sealed key is authenticated with: whose it is.
std::string context_of(const Provenance& provenance, const std::vector<TfheParameters>& key_sets) {
  return fmt::format("torusml secret key\n{}\n{}\n{}", to_hex(provenance.key),
                     to_hex(provenance.model), json_text(key_sets_json(key_sets)));
}

void add_sealed(ContainerWriter& writer, const SecretKeySet& keys,
                std::span<const std::uint8_t> passphrase) {
  const Sealed sealed =
      seal(pack(keys.keys.big), passphrase, context_of(keys.provenance, keys.key_sets));
  writer.set("sealing", kSealing);
  writer.set("scrypt_n_log2", std::to_string(sealed.cost.n_log2));
  writer.set("scrypt_r", std::to_string(sealed.cost.r));
  writer.set("scrypt_p", std::to_string(sealed.cost.p));
  writer.set("salt", to_hex(sealed.salt));
  writer.set("nonce", to_hex(sealed.nonce));
  SecretBuffer<std::uint8_t> bytes(sealed.bytes.size());
  std::ranges::copy(sealed.bytes, bytes.data());
  writer.add_secret("sealed_big", std::move(bytes));
}

ContainerWriter make_writer(const SecretKeySet& keys, std::span<const std::uint8_t> passphrase) {
  ContainerWriter writer(FileKind::secret_key);
  set_provenance(writer, keys.provenance);
  writer.add_text("key_sets", json_text({{"key_sets", key_sets_json(keys.key_sets)}}));
  if (passphrase.empty())
    writer.add_secret("big", pack(keys.keys.big));
  else
    add_sealed(writer, keys, passphrase);
  return writer;
}

void read_hex(const ContainerReader& reader, const char* key, std::span<std::uint8_t> bytes) {
  if (!from_hex(reader.property(key), bytes))
    reader.corrupt("header", fmt::format("property '{}' is not {} bytes", key, bytes.size()));
}

int read_cost(const ContainerReader& reader, const char* key, int most) {
  const int value = read_number<int>(reader, key);
  if (value < 1 || value > most)
    reader.corrupt("header",
                   fmt::format("property '{}' is {}, 1 to {} are read", key, value, most));
  return value;
}

SecretBuffer<std::uint8_t> read_sealed(const ContainerReader& reader, const SecretKeySet& keys,
                                       std::size_t bytes, const PassphraseSource& source) {
  if (reader.property("sealing") != kSealing)
    reader.corrupt("header", fmt::format("unknown sealing '{}'", reader.property("sealing")));
  Sealed sealed;
  sealed.cost = {read_cost(reader, "scrypt_n_log2", kMostScryptLog2),
                 read_cost(reader, "scrypt_r", kMostScryptR),
                 read_cost(reader, "scrypt_p", kMostScryptP)};
  read_hex(reader, "salt", sealed.salt);
  read_hex(reader, "nonce", sealed.nonce);
  reader.check_raw_size("sealed_big", bytes + kSealTagBytes);
  sealed.bytes.resize(bytes + kSealTagBytes);
  reader.read_words("sealed_big", std::span(sealed.bytes));
  if (!source) {
    throw Error(ErrorCode::wrong_passphrase, "the key is sealed, and no passphrase was given",
                reader.where(), "the passphrase that it was saved with");
  }
  std::optional<SecretBuffer<std::uint8_t>> packed =
      unseal(sealed, source(), context_of(keys.provenance, keys.key_sets));
  if (!packed) {
    throw Error(ErrorCode::wrong_passphrase, "the passphrase does not open the key", reader.where(),
                "the passphrase that it was saved with");
  }
  return *std::move(packed);
}

bool is_sealed(const ContainerReader& reader) { return reader.properties().contains("sealing"); }

}  // namespace

void save_secret_keys(const SecretKeySet& keys, const std::string& path, bool replace,
                      std::span<const std::uint8_t> passphrase) {
  make_writer(keys, passphrase).to_file(path, replace);
}

void save_key_pair(const SecretKeySet& secret, const std::string& secret_path, bool replace_secret,
                   const EvaluationKeySet& evaluation, const std::string& evaluation_path,
                   std::span<const std::uint8_t> passphrase) {
  OutputFile secret_file(secret_path, {.secret = true, .replace = replace_secret});
  OutputFile evaluation_file(evaluation_path, {});
  make_writer(secret, passphrase).write_to(secret_file);
  make_writer(evaluation).write_to(evaluation_file);
  secret_file.commit();
  evaluation_file.commit();
}

SecretKeySet load_secret_keys(const std::string& path, const PassphraseSource& passphrase) {
  const FileSource source(path);
  const ContainerReader reader(source, {FileKind::secret_key}, kMostSecretKeyBytes);
  source.check_is_private();
  const char* const section = is_sealed(reader) ? "sealed_big" : "big";
  reader.expect_sections({"key_sets", section});
  SecretKeySet set;
  set.provenance = read_provenance(reader);
  set.key_sets = JsonSection(reader, "key_sets").key_sets();
  set.keys.parameters = set.key_sets.front();
  const std::size_t bits = set.keys.parameters.big_dimension().value;
  const std::size_t bytes = (bits + kByteBits - 1) / kByteBits;
  SecretBuffer<std::uint8_t> packed;
  if (is_sealed(reader)) {
    packed = read_sealed(reader, set, bytes, passphrase);
  } else {
    packed = SecretBuffer<std::uint8_t>(bytes);
    reader.read_words(section, std::span<std::uint8_t>(packed));
  }
  set.keys.big = unpack(reader, section, packed, bits);
  return set;
}

}  // namespace torusml
