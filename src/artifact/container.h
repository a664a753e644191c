// The container of every TorusML file: a verified header and 64-byte aligned sections, each with
// its SHA-256. docs/formats.md has the byte layout.
//
//   ContainerWriter writer(FileKind::model);
//   writer.set("profile", "private_results");
//   writer.add_text("circuit", print(circuit));
//   writer.to_file("net.tml");
//
//   FileSource file("net.tml");
//   ContainerReader reader(file, {FileKind::model});
//   std::string text = reader.read_text("circuit", kMaxText);
//
// A reader trusts nothing: sizes are checked against the file before anything is allocated, and
// every byte that it gives was covered by a hash. A file that is cut or changed anywhere is an
// error. The same content gives the same bytes. Thread rule: const use is concurrent. Cost: one
// pass over the bytes, in constant extra memory for sections that are not compressed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "artifact/files.h"
#include "artifact/header.h"
#include "base/memory.h"

namespace torusml {

inline constexpr std::uint32_t kFormatVersion = 6;        // written
inline constexpr std::uint32_t kOldestFormatVersion = 5;  // read
inline constexpr std::size_t kMaxHeaderBytes = std::size_t{1} << 20;
inline constexpr std::uint64_t kNoLimit = std::numeric_limits<std::uint64_t>::max();
// Of one compressed section.
inline constexpr std::size_t kMaxDecompressedBytes = std::size_t{1} << 30;

class ContainerWriter {
 public:
  explicit ContainerWriter(FileKind kind) { header_.kind = kind; }

  void set(std::string key, std::string value);
  void add_text(std::string name, const std::string& text);  // compressed
  // As it is. The bytes must outlive the writer.
  void add_view(std::string name, std::span<const std::uint8_t> bytes);
  void add_secret(std::string name, SecretBuffer<std::uint8_t> bytes);

  // Not for secret keys, whose bytes go to a file of mode 0600 and nowhere else.
  std::string to_bytes() const;
  // A secret key's file gets mode 0600. Errors: file_unwritable.
  void to_file(const std::string& path, bool replace = true) const;
  // The bytes alone: the caller opens the file, for secret keys with .secret, and commits it.
  void write_to(OutputFile& file) const;

 private:
  using Body = std::variant<std::span<const std::uint8_t>, std::string, SecretBuffer<std::uint8_t>>;

  void add(std::string name, Body body, std::uint64_t raw_size, SectionCodec codec);
  void emit(const std::function<void(std::span<const std::uint8_t>)>& sink) const;

  ContainerHeader header_;
  std::vector<Body> bodies_;  // by section
};

class ContainerReader {
 public:
  // Reads and checks the header. The source must outlive the reader. `expected` empty: any kind.
  // Errors: file_too_large, file_truncated, file_foreign (another magic, or another kind),
  // file_version, file_corrupt.
  ContainerReader(const ByteSource& source, const std::vector<FileKind>& expected,
                  std::uint64_t max_bytes = kNoLimit);

  FileKind kind() const { return header_.kind; }
  const std::string& producer() const { return header_.producer; }
  const Properties& properties() const { return header_.properties; }
  const std::vector<SectionInfo>& sections() const { return header_.sections; }
  const std::string& where() const { return where_; }
  std::uint64_t file_size() const { return source_.size(); }

  // Error file_corrupt when it is missing; so below.
  const std::string& property(const std::string& key) const;
  std::size_t raw_size(const std::string& section) const;
  // Error file_corrupt unless the file has these sections and no other.
  void expect_sections(const std::vector<std::string>& names) const;

  // bytes.size() must be raw_size(section). Checks the hash. Error file_corrupt names the section.
  void read(const std::string& section, std::span<std::uint8_t> bytes) const;
  std::string read_text(const std::string& section, std::size_t limit) const;
  // Whole words, little-endian; the size is checked against words.size().
  template <class Word>
  void read_words(const std::string& section, std::span<Word> words) const {
    check_raw_size(section, words.size_bytes());
    read(section, {reinterpret_cast<std::uint8_t*>(words.data()), words.size_bytes()});
  }
  void check_raw_size(const std::string& section, std::uint64_t bytes) const;
  // Checks the hash of every section.
  void verify_all() const;

  [[noreturn]] void corrupt(const std::string& section, const std::string& what) const;

 private:
  const SectionInfo& find(const std::string& section) const;
  void read_header();
  void check_layout();
  void check_zeros(std::uint64_t begin, std::uint64_t end) const;
  void check_digest(const SectionInfo& section, const Digest& found) const;

  const ByteSource& source_;
  std::string where_;
  ContainerHeader header_;
  std::uint64_t header_size_ = 0, data_start_ = 0;
};

}  // namespace torusml
