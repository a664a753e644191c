// Files: written whole or not at all, and read at positions.
//
//   OutputFile file("y.ct", {});
//   file.write(bytes);
//   file.commit();  // without it nothing appears under the name
//
// Thread rule: one file per thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace torusml {

struct OutputFileOptions {
  bool secret = false;  // mode 0600 from its creation; otherwise as the umask says
  bool replace = true;  // false: an existing file is kept, and commit() is an error
};

// Writes to a temporary file in the same folder; commit() syncs it to disk and renames it.
// Errors: file_unwritable.
class OutputFile {
 public:
  OutputFile(std::string path, OutputFileOptions options);
  ~OutputFile();
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  void write(std::span<const std::uint8_t> bytes);
  void write(std::string_view text);
  void skip(std::uint64_t bytes);  // zeros, without room on disk where the file system can
  void commit();

 private:
  [[noreturn]] void fail(const std::string& what, int error) const;

  std::string path_, temporary_;
  OutputFileOptions options_;
  int descriptor_ = -1;
};

// A source of bytes of known size.
class ByteSource {
 public:
  virtual ~ByteSource() = default;
  virtual std::uint64_t size() const = 0;
  virtual const std::string& name() const = 0;  // for errors
  // Reads all of `bytes` from `offset`; the range lies within size().
  virtual void read(std::uint64_t offset, std::span<std::uint8_t> bytes) const = 0;
};

// A regular file. Errors: file_unreadable; file_truncated if it shrinks while it is read.
class FileSource : public ByteSource {
 public:
  explicit FileSource(std::string path);
  ~FileSource() override;
  FileSource(const FileSource&) = delete;
  FileSource& operator=(const FileSource&) = delete;

  std::uint64_t size() const override { return size_; }
  const std::string& name() const override { return path_; }
  void read(std::uint64_t offset, std::span<std::uint8_t> bytes) const override;
  // Error key_exposed unless the file's mode keeps everybody but its owner out. For secrets.
  void check_is_private() const;

 private:
  std::string path_;
  int descriptor_ = -1;
  std::uint64_t size_ = 0;
  unsigned mode_ = 0;
};

// Bytes in memory, which must outlive it.
class MemorySource : public ByteSource {
 public:
  MemorySource(std::string_view bytes, std::string name) : bytes_(bytes), name_(std::move(name)) {}

  std::uint64_t size() const override { return bytes_.size(); }
  const std::string& name() const override { return name_; }
  void read(std::uint64_t offset, std::span<std::uint8_t> bytes) const override;

 private:
  std::string_view bytes_;
  std::string name_;
};

inline std::span<const std::uint8_t> as_bytes(std::string_view text) {
  return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()};
}

}  // namespace torusml
