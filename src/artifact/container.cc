#include "artifact/container.h"

#include <fmt/format.h>
#include <zstd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "torusml/error.h"

namespace torusml {
namespace {

static_assert(std::endian::native == std::endian::little, "sections hold little-endian words");

// Like PNG's: a transfer that changes line ends or drops the eighth bit is seen at once.
constexpr std::array<std::uint8_t, 8> kMagic{0x89, 'T', 'M', 'L', '\r', '\n', 0x1a, '\n'};
constexpr std::uint64_t kAlignment = 64;
constexpr std::size_t kVersionAt = 8, kSizeAt = 12, kDigestAt = 16, kHeaderAt = 48;
constexpr int kCompressionLevel = 9;
// A zstd block of 4 bytes can stand for 128 KiB at most.
constexpr std::uint64_t kMaxCompressionRatio = 32768;
constexpr std::size_t kChunk = std::size_t{1} << 20;

std::uint64_t align(std::uint64_t offset) {
  return (offset + kAlignment - 1) / kAlignment * kAlignment;
}

void put_u32(std::span<std::uint8_t> bytes, std::size_t at, std::uint32_t value) {
  std::memcpy(bytes.data() + at, &value, sizeof value);
}

std::uint32_t get_u32(std::span<const std::uint8_t> bytes, std::size_t at) {
  std::uint32_t value;
  std::memcpy(&value, bytes.data() + at, sizeof value);
  return value;
}

// Of all that stands before the sections, but for the digest itself.
Digest header_digest(std::span<const std::uint8_t> prefix, std::span<const std::uint8_t> header) {
  Sha256 hash;
  hash.update(prefix.first(kDigestAt));
  hash.update(header);
  return hash.finish();
}

std::string compress(const std::string& text) {
  std::string result(ZSTD_compressBound(text.size()), '\0');
  const std::size_t size =
      ZSTD_compress(result.data(), result.size(), text.data(), text.size(), kCompressionLevel);
  if (ZSTD_isError(size)) throw Error(ErrorCode::internal, ZSTD_getErrorName(size));
  result.resize(size);
  return result;
}

template <class Body>
std::span<const std::uint8_t> bytes_of(const Body& body) {
  return std::visit(
      [](const auto& held) -> std::span<const std::uint8_t> {
        return {reinterpret_cast<const std::uint8_t*>(held.data()), held.size()};
      },
      body);
}

std::array<std::uint8_t, kHeaderAt> make_prefix(std::span<const std::uint8_t> header) {
  std::array<std::uint8_t, kHeaderAt> prefix{};
  std::ranges::copy(kMagic, prefix.begin());
  put_u32(prefix, kVersionAt, kFormatVersion);
  put_u32(prefix, kSizeAt, static_cast<std::uint32_t>(header.size()));
  std::ranges::copy(header_digest(prefix, header), prefix.begin() + kDigestAt);
  return prefix;
}

}  // namespace

void ContainerWriter::set(std::string key, std::string value) {
  header_.properties[std::move(key)] = std::move(value);
}

void ContainerWriter::add_text(std::string name, const std::string& text) {
  add(std::move(name), compress(text), text.size(), SectionCodec::zstd);
}

void ContainerWriter::add_view(std::string name, std::span<const std::uint8_t> bytes) {
  add(std::move(name), bytes, bytes.size(), SectionCodec::none);
}

void ContainerWriter::add_secret(std::string name, SecretBuffer<std::uint8_t> bytes) {
  const std::size_t size = bytes.size();
  add(std::move(name), std::move(bytes), size, SectionCodec::none);
}

void ContainerWriter::add(std::string name, Body body, std::uint64_t raw_size, SectionCodec codec) {
  SectionInfo section{.name = std::move(name), .raw_size = raw_size, .codec = codec};
  const std::span<const std::uint8_t> bytes = bytes_of(body);
  if (!header_.sections.empty()) {
    const SectionInfo& last = header_.sections.back();
    section.offset = align(last.offset + last.stored_size);
  }
  section.stored_size = bytes.size();
  section.sha256 = sha256(bytes);
  header_.sections.push_back(std::move(section));
  bodies_.push_back(std::move(body));
}

void ContainerWriter::emit(const std::function<void(std::span<const std::uint8_t>)>& sink) const {
  static constexpr std::array<std::uint8_t, kAlignment> kZeros{};
  ContainerHeader complete = header_;
  complete.producer = "torusml " TORUSML_VERSION;
  const std::vector<std::uint8_t> header = encode_header(complete);
  if (header.size() > kMaxHeaderBytes) {
    throw Error(ErrorCode::not_supported,
                fmt::format("the file's header has {} bytes, at most {} are possible",
                            header.size(), kMaxHeaderBytes));
  }
  std::uint64_t at = kHeaderAt + header.size();
  sink(make_prefix(header));
  sink(header);
  for (const Body& body : bodies_) {
    const std::span<const std::uint8_t> bytes = bytes_of(body);
    sink(std::span(kZeros).first(align(at) - at));
    sink(bytes);
    at = align(at) + bytes.size();
  }
}

std::string ContainerWriter::to_bytes() const {
  if (header_.kind == FileKind::secret_key)
    throw Error(ErrorCode::internal, "a secret key leaves memory as a file only");
  std::string result;
  if (!header_.sections.empty()) {
    const SectionInfo& last = header_.sections.back();
    result.reserve(last.offset + last.stored_size + 4096);
  }
  emit([&](std::span<const std::uint8_t> bytes) {
    result.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  });
  return result;
}

void ContainerWriter::to_file(const std::string& path, bool replace) const {
  OutputFile file(path, {.secret = header_.kind == FileKind::secret_key, .replace = replace});
  write_to(file);
  file.commit();
}

void ContainerWriter::write_to(OutputFile& file) const {
  emit([&](std::span<const std::uint8_t> bytes) { file.write(bytes); });
}

ContainerReader::ContainerReader(const ByteSource& source, const std::vector<FileKind>& expected,
                                 std::uint64_t max_bytes)
    : source_(source), where_(fmt::format("file '{}'", source.name())) {
  read_header();
  if (!expected.empty() && std::ranges::find(expected, header_.kind) == expected.end()) {
    std::string kinds;
    for (const FileKind kind : expected)
      kinds += fmt::format("{}'{}'", kinds.empty() ? "" : " or ", to_string(kind));
    throw Error(ErrorCode::file_foreign,
                fmt::format("it is a TorusML file of kind '{}'; kind {} is expected",
                            to_string(header_.kind), kinds),
                where_);
  }
  if (source.size() > max_bytes) {
    throw Error(ErrorCode::file_too_large,
                fmt::format("it has {} bytes, at most {} are taken", source.size(), max_bytes),
                where_);
  }
  check_layout();
}

void ContainerReader::read_header() {
  std::array<std::uint8_t, kHeaderAt> prefix{};
  const auto present = static_cast<std::size_t>(std::min<std::uint64_t>(kHeaderAt, source_.size()));
  source_.read(0, std::span(prefix).first(present));
  const std::size_t magic = std::min(present, kMagic.size());
  if (!std::equal(kMagic.begin(), kMagic.begin() + magic, prefix.begin()))
    throw Error(ErrorCode::file_foreign, "it is not a TorusML file", where_);
  const auto truncated = [&](std::uint64_t needed) {
    throw Error(ErrorCode::file_truncated,
                fmt::format("it has {} bytes, its header alone takes {}", source_.size(), needed),
                where_);
  };
  if (present < kHeaderAt) truncated(kHeaderAt);
  if (const std::uint32_t version = get_u32(prefix, kVersionAt);
      version < kOldestFormatVersion || version > kFormatVersion) {
    throw Error(ErrorCode::file_version,
                fmt::format("it has format version {}, this program reads {} to {}", version,
                            kOldestFormatVersion, kFormatVersion),
                where_,
                version > kFormatVersion
                    ? "a newer TorusML wrote it: install that version or a later one"
                    : "make the file anew, or use the TorusML that wrote it");
  }
  header_size_ = get_u32(prefix, kSizeAt);
  if (header_size_ > kMaxHeaderBytes)
    corrupt("header", fmt::format("{} bytes are more than {}", header_size_, kMaxHeaderBytes));
  if (kHeaderAt + header_size_ > source_.size()) truncated(kHeaderAt + header_size_);
  AlignedBuffer<std::uint8_t> header(header_size_);
  source_.read(kHeaderAt, header);
  const Digest found = header_digest(prefix, header);
  if (!std::equal(found.begin(), found.end(), prefix.begin() + kDigestAt))
    corrupt("header", "its SHA-256 differs");
  header_ = decode_header(header, where_);
}

// Sections lie where the format puts them and nowhere else, and the file ends with the last one.
void ContainerReader::check_layout() {
  const std::uint64_t size = source_.size();
  std::uint64_t end = kHeaderAt + header_size_;
  data_start_ = align(end);
  for (const SectionInfo& section : header_.sections) {
    const std::uint64_t begin = align(end);
    if (section.offset != begin - data_start_) corrupt(section.name, "it lies in the wrong place");
    if (begin > size || section.stored_size > size - begin) {
      throw Error(ErrorCode::file_truncated,
                  fmt::format("it has {} bytes; section '{}' begins at byte {} and takes {}", size,
                              section.name, begin, section.stored_size),
                  where_);
    }
    const bool is_raw = section.codec == SectionCodec::none;
    if (is_raw && section.raw_size != section.stored_size)
      corrupt(section.name, "its sizes contradict each other");
    const std::uint64_t limit =
        std::min<std::uint64_t>(kMaxDecompressedBytes, section.stored_size * kMaxCompressionRatio);
    if (!is_raw && (section.stored_size > kMaxDecompressedBytes || section.raw_size > limit))
      corrupt(section.name, fmt::format("{} bytes are more than it can hold", section.raw_size));
    check_zeros(end, begin);
    end = begin + section.stored_size;
  }
  if (end != size) corrupt("header", fmt::format("{} bytes follow the last section", size - end));
}

void ContainerReader::check_zeros(std::uint64_t begin, std::uint64_t end) const {
  std::array<std::uint8_t, kAlignment> padding{};
  const auto bytes = std::span(padding).first(static_cast<std::size_t>(end - begin));
  source_.read(begin, bytes);
  if (std::ranges::any_of(bytes, [](std::uint8_t byte) { return byte != 0; }))
    corrupt("header", fmt::format("the bytes between sections at {} are not zero", begin));
}

void ContainerReader::corrupt(const std::string& section, const std::string& what) const {
  throw Error(ErrorCode::file_corrupt, fmt::format("section '{}': {}", section, what), where_);
}

const std::string& ContainerReader::property(const std::string& key) const {
  const auto found = header_.properties.find(key);
  if (found == header_.properties.end())
    corrupt("header", fmt::format("property '{}' is missing", key));
  return found->second;
}

const SectionInfo& ContainerReader::find(const std::string& section) const {
  const auto found = std::ranges::find(header_.sections, section, &SectionInfo::name);
  if (found == header_.sections.end()) corrupt(section, "it is missing");
  return *found;
}

std::size_t ContainerReader::raw_size(const std::string& section) const {
  return static_cast<std::size_t>(find(section).raw_size);
}

void ContainerReader::expect_sections(const std::vector<std::string>& names) const {
  for (const std::string& name : names) find(name);
  for (const SectionInfo& section : header_.sections) {
    if (std::ranges::find(names, section.name) == names.end())
      corrupt(section.name, "it does not belong here");
  }
}

void ContainerReader::check_raw_size(const std::string& section, std::uint64_t bytes) const {
  if (raw_size(section) != bytes) {
    corrupt(section, fmt::format("it has {} bytes, {} are expected", raw_size(section), bytes));
  }
}

void ContainerReader::check_digest(const SectionInfo& section, const Digest& found) const {
  if (found != section.sha256) corrupt(section.name, "its SHA-256 differs");
}

void ContainerReader::read(const std::string& name, std::span<std::uint8_t> bytes) const {
  const SectionInfo& section = find(name);
  if (bytes.size() != section.raw_size)
    throw Error(ErrorCode::internal, fmt::format("section '{}' is read in part", name), where_);
  const std::uint64_t begin = data_start_ + section.offset;
  if (section.codec == SectionCodec::none) {
    source_.read(begin, bytes);
    check_digest(section, sha256(bytes));
    return;
  }
  std::vector<std::uint8_t> stored(static_cast<std::size_t>(section.stored_size));
  source_.read(begin, stored);
  check_digest(section, sha256(stored));
  const std::size_t size =
      ZSTD_decompress(bytes.data(), bytes.size(), stored.data(), stored.size());
  if (ZSTD_isError(size)) corrupt(name, ZSTD_getErrorName(size));
  if (size != bytes.size())
    corrupt(name, fmt::format("it holds {} bytes, {} are announced", size, bytes.size()));
}

std::string ContainerReader::read_text(const std::string& section, std::size_t limit) const {
  const std::size_t size = raw_size(section);
  if (size > limit) corrupt(section, fmt::format("{} bytes are more than {}", size, limit));
  std::string text(size, '\0');
  read(section, {reinterpret_cast<std::uint8_t*>(text.data()), text.size()});
  return text;
}

void ContainerReader::verify_all() const {
  std::vector<std::uint8_t> chunk(kChunk);
  for (const SectionInfo& section : header_.sections) {
    Sha256 hash;
    for (std::uint64_t at = 0; at < section.stored_size; at += kChunk) {
      const auto bytes = std::span(chunk).first(
          static_cast<std::size_t>(std::min<std::uint64_t>(kChunk, section.stored_size - at)));
      source_.read(data_start_ + section.offset + at, bytes);
      hash.update(bytes);
    }
    check_digest(section, hash.finish());
  }
}

}  // namespace torusml
