#include "artifact/prepared_keys_file.h"

#include <fmt/format.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <sys/stat.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <memory>
#include <optional>
#include <system_error>
#include <type_traits>
#include <vector>

#include "artifact/files.h"
#include "base/file_mapping.h"
#include "base/memory.h"
#include "base/threads.h"
#include "tfhe/kernels.h"
#include "torusml/error.h"

namespace torusml {
namespace {

constexpr std::array<std::uint8_t, 8> kMagic{0x89, 'T', 'P', 'K', 0x0d, 0x0a, 0x1a, 0x0a};
constexpr std::uint32_t kByteOrder = 0x01020304;
constexpr std::array<const char*, 3> kPartNames{"bootstrap", "keyswitch", "trace"};

struct Parameters {
  std::uint32_t small_dimension, glwe_dimension, polynomial_size;
  std::uint32_t bootstrap_base_log2, bootstrap_levels;
  std::uint32_t keyswitch_base_log2, keyswitch_levels;
  std::uint32_t grouping_factor, accumulator_bits;
  std::uint32_t circuit_bootstrap_base_log2, circuit_bootstrap_levels;
  std::uint32_t trace_base_log2, trace_levels;
  std::uint32_t zero;
  std::uint64_t small_variance, glwe_variance;  // bits of doubles

  friend bool operator==(const Parameters&, const Parameters&) = default;
};

Parameters stored(const TfheParameters& p) {
  return {p.small_dimension.value,
          p.glwe_dimension.value,
          p.polynomial_size.value,
          p.bootstrap.base_log2,
          p.bootstrap.level_count,
          p.keyswitch.base_log2,
          p.keyswitch.level_count,
          p.grouping_factor,
          p.accumulator_bits,
          p.circuit_bootstrap.base_log2,
          p.circuit_bootstrap.level_count,
          p.trace.base_log2,
          p.trace.level_count,
          0,
          std::bit_cast<std::uint64_t>(p.small_variance.value),
          std::bit_cast<std::uint64_t>(p.glwe_variance.value)};
}

template <class T>
std::span<const std::uint8_t> bytes_of(const T& value) {
  static_assert(std::has_unique_object_representations_v<T>);
  return {reinterpret_cast<const std::uint8_t*>(&value), sizeof(T)};
}

template <class Word>
std::span<const std::uint8_t> bytes_of(const std::vector<Word>& words) {
  return {reinterpret_cast<const std::uint8_t*>(words.data()), words.size() * sizeof(Word)};
}

// A client chooses seed and bodies, and files of many clients may lie in one folder: nobody may be
// able to make keys whose file is taken for that of others.
Digest id_of(const SeededEvaluationKeys& keys) {
  Sha256 hash;
  hash.update("torusml prepared keys\n");
  hash.update(bytes_of(stored(keys.parameters)));
  hash.update(keys.seed);
  hash.update(tree_sha256(keys.bootstrap_bodies));
  hash.update(tree_sha256(bytes_of(keys.keyswitch_bodies)));
  hash.update(tree_sha256(keys.trace_bodies));
  return hash.finish();
}

void check_openssl(bool is_right) {
  if (!is_right) throw Error(ErrorCode::internal, "GMAC is not available in OpenSSL");
}

using Tag = std::array<std::uint8_t, 16>;

// GMAC of AES-128 under a key of zeros. No secret and no proof: a checksum of 128 bits, several
// times as fast as SHA-256 on every processor with AES instructions.
class Gmac {
 public:
  Gmac() : mac_(EVP_MAC_fetch(nullptr, "GMAC", nullptr)) { check_openssl(mac_ != nullptr); }
  ~Gmac() { EVP_MAC_free(mac_); }
  Gmac(const Gmac&) = delete;
  Gmac& operator=(const Gmac&) = delete;

  // Concurrent.
  Tag operator()(std::span<const std::uint8_t> bytes) const {
    const std::unique_ptr<EVP_MAC_CTX, decltype(&EVP_MAC_CTX_free)> context(EVP_MAC_CTX_new(mac_),
                                                                            &EVP_MAC_CTX_free);
    check_openssl(context != nullptr);
    char cipher[] = "AES-128-GCM";
    Tag key{};
    std::array<std::uint8_t, 12> nonce{};
    const OSSL_PARAM parameters[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_CIPHER, cipher, 0),
        OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_IV, nonce.data(), nonce.size()),
        OSSL_PARAM_construct_end()};
    Tag tag;
    std::size_t size = 0;
    check_openssl(EVP_MAC_init(context.get(), key.data(), key.size(), parameters) == 1 &&
                  EVP_MAC_update(context.get(), bytes.data(), bytes.size()) == 1 &&
                  EVP_MAC_final(context.get(), tag.data(), &size, tag.size()) == 1 &&
                  size == tag.size());
    return tag;
  }

 private:
  EVP_MAC* mac_;
};

// SHA-256 of the GMAC of each MiB; parallel.
Digest checksum_of(std::span<const std::uint8_t> part) {
  constexpr std::size_t kPiece = std::size_t{1} << 20;
  const Gmac gmac;
  std::vector<Tag> tags((part.size() + kPiece - 1) / kPiece);
  parallel_for(tags.size(), [&](std::size_t i) {
    const auto rest = part.subspan(i * kPiece);
    tags[i] = gmac(rest.first(std::min(rest.size(), kPiece)));
  });
  return sha256(bytes_of(tags));
}

std::uint64_t round_up(std::uint64_t bytes) {
  return (bytes + kHugePageBytes - 1) / kHugePageBytes * kHugePageBytes;
}

std::string where_of(const std::string& path) { return fmt::format("file '{}'", path); }

}  // namespace

// As the machine holds it in memory.
struct PreparedKeysFile::Header {
  struct Part {
    std::uint64_t offset, size;
    Digest checksum;
  };
  std::array<std::uint8_t, 8> magic;
  std::uint32_t byte_order, layout;
  std::array<char, 16> target;  // the instruction set, then zeros
  Parameters parameters;
  Digest id;
  std::array<Part, 3> parts;
  Digest sha256;  // of what stands above

  PartSizes offsets() const { return {parts[0].offset, parts[1].offset, parts[2].offset}; }
  Digest own_sha256() const {
    return torusml::sha256(bytes_of(*this).first(sizeof(Header) - sizeof(Digest)));
  }
};

PreparedKeysFile::PreparedKeysFile(const SeededEvaluationKeys& keys)
    : keys_(keys), sizes_(EvaluationKeys::part_sizes(keys)), id_(id_of(keys)) {}

std::string PreparedKeysFile::name() const {
  std::string target = current_kernels().target;
  std::ranges::transform(target, target.begin(), [](char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  });
  return fmt::format("{}-{}-{}.prepared", to_hex(std::span(id_).first(id_.size() / 2)), target,
                     kPreparedLayout);
}

PreparedKeysFile::Header PreparedKeysFile::expected_header() const {
  Header header{};
  header.magic = kMagic;
  header.byte_order = kByteOrder;
  header.layout = kPreparedLayout;
  std::string_view(current_kernels().target).copy(header.target.data(), header.target.size());
  header.parameters = stored(keys_.parameters);
  header.id = id_;
  std::uint64_t offset = kHugePageBytes;
  for (std::size_t i = 0; i < header.parts.size(); ++i) {
    header.parts[i].offset = offset;
    header.parts[i].size = sizes_[i];
    offset += round_up(sizes_[i]);
  }
  return header;
}

void PreparedKeysFile::save(const EvaluationKeys& prepared, const std::string& path) const {
  const PreparedParts parts = prepared.parts();
  Header header = expected_header();
  for (std::size_t i = 0; i < parts.size(); ++i) header.parts[i].checksum = checksum_of(parts[i]);
  header.sha256 = header.own_sha256();
  OutputFile file(path, {.secret = true});
  file.write(bytes_of(header));
  file.skip(kHugePageBytes - sizeof(Header));
  for (const auto& part : parts) {
    file.write(part);
    file.skip(round_up(part.size()) - part.size());
  }
  file.commit();
}

void PreparedKeysFile::check_header(const Header& found, std::size_t file_size,
                                    const std::string& where) const {
  const Header expected = expected_header();
  const auto fail = [&](ErrorCode code, const std::string& what) {
    throw Error(code, what, where);
  };
  if (found.magic != expected.magic)
    fail(ErrorCode::file_foreign, "it is not a file of prepared keys");
  if (found.byte_order != expected.byte_order)
    fail(ErrorCode::file_version, "it was made on a machine of another byte order");
  if (found.layout != expected.layout) {
    fail(ErrorCode::file_version,
         fmt::format("it has layout {}, this program reads {}", found.layout, expected.layout));
  }
  if (found.sha256 != found.own_sha256())
    fail(ErrorCode::file_corrupt, "its header's SHA-256 differs");
  if (found.target != expected.target) {
    fail(ErrorCode::file_version,
         fmt::format("it was made by another instruction set than {}", current_kernels().target));
  }
  if (!(found.parameters == expected.parameters))
    fail(ErrorCode::wrong_key, "its keys have other parameters");
  if (found.id != expected.id) {
    fail(ErrorCode::wrong_key, fmt::format("it was made of the keys {}, these are {}",
                                           short_hex(found.id), short_hex(expected.id)));
  }
  for (std::size_t i = 0; i < sizes_.size(); ++i) {
    if (found.parts[i].offset != expected.parts[i].offset ||
        found.parts[i].size != expected.parts[i].size) {
      fail(ErrorCode::file_corrupt,
           fmt::format("part '{}' has {} bytes at {}; {} at {} are due", kPartNames[i],
                       found.parts[i].size, found.parts[i].offset, expected.parts[i].size,
                       expected.parts[i].offset));
    }
  }
  const std::uint64_t due = expected.parts[2].offset + round_up(expected.parts[2].size);
  if (file_size != due) {
    fail(file_size < due ? ErrorCode::file_truncated : ErrorCode::file_corrupt,
         fmt::format("it has {} bytes; {} are due", file_size, due));
  }
}

EvaluationKeys PreparedKeysFile::map(const std::string& path) const {
  const std::string where = where_of(path);
  FileMapping file(path);
  if (file.bytes().size() < sizeof(Header)) {
    throw Error(
        ErrorCode::file_truncated,
        fmt::format("it has {} bytes; the header takes {}", file.bytes().size(), sizeof(Header)),
        where);
  }
  Header header;
  std::memcpy(&header, file.bytes().data(), sizeof(Header));
  check_header(header, file.bytes().size(), where);
  EvaluationKeys keys = EvaluationKeys::over(std::move(file), keys_.parameters, header.offsets());
  const PreparedParts parts = keys.parts();
  for (std::size_t i = 0; i < parts.size(); ++i) {
    if (checksum_of(parts[i]) == header.parts[i].checksum) continue;
    throw Error(ErrorCode::file_corrupt,
                fmt::format("part '{}': its checksum differs", kPartNames[i]), where);
  }
  // A program that was changed without a new layout number.
  if (!keys.begin_and_end_as(keys_)) {
    throw Error(ErrorCode::file_version,
                "it holds other numbers than this program makes of the keys", where);
  }
  return keys;
}

namespace {

bool exists(const std::string& path) {
  std::error_code ignored;
  return std::filesystem::exists(path, ignored);
}

void make_folder(const std::string& folder) {
  if (mkdir(folder.c_str(), 0700) == 0 || errno == EEXIST) return;
  throw Error(ErrorCode::file_unwritable, std::generic_category().message(errno),
              fmt::format("folder '{}'", folder));
}

}  // namespace

LoadedKeys load_prepared_keys(const SeededEvaluationKeys& keys, const std::string& folder) {
  if (folder.empty() || !keys.parameters.has_bootstrap()) return {EvaluationKeys::prepare(keys)};
  const PreparedKeysFile file(keys);
  const std::string path = (std::filesystem::path(folder) / file.name()).string();
  std::string warning;
  if (exists(path)) {
    try {
      return {file.map(path), true, ""};
    } catch (const Error& error) {
      warning = fmt::format("prepared keys were made anew: {}", error.what());
    }
  }
  std::optional<EvaluationKeys> prepared = EvaluationKeys::prepare(keys);
  try {
    make_folder(folder);
    file.save(*prepared, path);
    prepared.reset();  // no second copy beside the mapping
    return {file.map(path), true, warning};
  } catch (const Error& error) {
    warning = fmt::format("prepared keys are not shared: {}", error.what());
  }
  if (!prepared) prepared = EvaluationKeys::prepare(keys);
  return {*std::move(prepared), false, warning};
}

}  // namespace torusml
