// Folders and files of a registry: for their owner alone, never through a symbolic link, and on
// disk when they say so.
//
//   DataFolder keys = DataFolder("/var/lib/torusml").subfolder("keys");
//   DataFile file = keys.create("x.part");
//   file.write(bytes);
//   file.sync();
//   keys.rename("x.part", "x");
//   keys.sync();                 // now the name is on disk, too
//
// Errors: file_unreadable, file_unwritable; server_busy where the disk is full. Thread rule: const
// use is concurrent; one DataFile per thread.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace torusml {

// A descriptor, closed at the end.
class Descriptor {
 public:
  Descriptor() = default;
  explicit Descriptor(int value) : value_(value) {}
  Descriptor(Descriptor&& other) noexcept : value_(other.value_) { other.value_ = -1; }
  Descriptor& operator=(Descriptor&& other) noexcept;
  ~Descriptor();
  int get() const { return value_; }

 private:
  int value_ = -1;
};

class DataFile {
 public:
  void write(std::span<const std::uint8_t> bytes);  // at its end
  // Takes room on disk for so many bytes in all, where the file system can.
  void reserve(std::uint64_t bytes);
  void truncate(std::uint64_t bytes);
  void sync();
  std::uint64_t size() const;
  // All of it, in pieces.
  void read(const std::function<void(std::span<const std::uint8_t>)>& sink) const;

 private:
  friend class DataFolder;
  DataFile(Descriptor descriptor, std::string path)
      : descriptor_(std::move(descriptor)), path_(std::move(path)) {}
  [[noreturn]] void fail(int error) const;

  Descriptor descriptor_;
  std::string path_;
  std::uint64_t written_ = 0, started_ = 0;  // bytes; on their way to disk
};

class DataFolder {
 public:
  // Makes it (mode 0700) where its parent is there. One that is there must not be writable by
  // others.
  explicit DataFolder(const std::string& path);
  // Makes it where it is not there; on disk then. Names here are single ones, without '/'.
  DataFolder subfolder(const std::string& name) const;
  // None: there is none.
  std::optional<DataFolder> find_subfolder(const std::string& name) const;

  DataFile create(const std::string& name) const;          // mode 0600, empty
  DataFile create_missing(const std::string& name) const;  // or, if it has come to be, as it is
  std::optional<DataFile> open(const std::string& name) const;
  std::optional<std::uint64_t> size_of(const std::string& name) const;  // of a regular file
  void rename(const std::string& from, const std::string& to) const;
  bool remove(const std::string& name) const noexcept;         // a file
  bool remove_folder(const std::string& name) const noexcept;  // an empty one
  std::vector<std::string> names() const;
  void sync() const;

  std::string path_of(const std::string& name) const;
  const std::string& path() const { return path_; }
  // False: another open file has it. Until the end of this object.
  bool lock(const std::string& name);

 private:
  DataFolder(Descriptor descriptor, std::string path)
      : descriptor_(std::move(descriptor)), path_(std::move(path)) {}
  DataFile create(const std::string& name, int flags) const;

  Descriptor descriptor_, lock_;
  std::string path_;
};

}  // namespace torusml
