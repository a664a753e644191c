#include "artifact/files.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>

#include "artifact/hash.h"
#include "torusml/error.h"

namespace torusml {
namespace {

std::string system_message(int error) { return std::generic_category().message(error); }

std::string folder_of(const std::string& path) {
  const std::string parent = std::filesystem::path(path).parent_path().string();
  return parent.empty() ? "." : parent;
}

std::string temporary_name(const std::string& path) {
  std::array<std::uint8_t, 8> random;
  if (RAND_bytes(random.data(), random.size()) != 1)
    throw Error(ErrorCode::internal, "the system gives no random bytes");
  return path + ".partial-" + to_hex(random);
}

// Makes the new name itself survive a power failure. Not every file system can.
void sync_folder(const std::string& folder) {
  const int descriptor = open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) return;
  fsync(descriptor);
  close(descriptor);
}

// rename() that refuses to replace, in one step where the file system knows how.
int rename_new(const char* from, const char* to) {
  if (renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE) == 0) return 0;
  if (errno != EINVAL && errno != ENOSYS) return -1;
  if (link(from, to) != 0) return -1;
  unlink(from);
  return 0;
}

}  // namespace

OutputFile::OutputFile(std::string path, OutputFileOptions options)
    : path_(std::move(path)), options_(options) {
  struct stat existing;
  if (stat(path_.c_str(), &existing) == 0) {
    if (!S_ISREG(existing.st_mode)) fail("the name belongs to something that is not a file", 0);
    if (!options_.replace) fail("the file exists already", 0);
  }
  const mode_t mode = options_.secret ? 0600 : 0666;
  std::string temporary = temporary_name(path_);
  descriptor_ = open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode);
  if (descriptor_ < 0) fail("cannot create a file beside it", errno);
  temporary_ = std::move(temporary);
}

OutputFile::~OutputFile() {
  if (descriptor_ >= 0) close(descriptor_);
  if (!temporary_.empty()) unlink(temporary_.c_str());
}

void OutputFile::fail(const std::string& what, int error) const {
  const std::string reason = error == 0 ? "" : fmt::format(": {}", system_message(error));
  throw Error(ErrorCode::file_unwritable, what + reason, fmt::format("file '{}'", path_));
}

void OutputFile::write(std::span<const std::uint8_t> bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(descriptor_, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail("cannot write", errno);
    bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
}

void OutputFile::write(std::string_view text) { write(as_bytes(text)); }

void OutputFile::skip(std::uint64_t bytes) {
  const off_t position = lseek(descriptor_, static_cast<off_t>(bytes), SEEK_CUR);
  if (position < 0 || ftruncate(descriptor_, position) != 0) fail("cannot write", errno);
}

void OutputFile::commit() {
  if (fsync(descriptor_) != 0) fail("cannot write to disk", errno);
  const int closed = close(descriptor_);
  descriptor_ = -1;
  if (closed != 0) fail("cannot write to disk", errno);
  const int renamed = options_.replace ? rename(temporary_.c_str(), path_.c_str())
                                       : rename_new(temporary_.c_str(), path_.c_str());
  if (renamed != 0) fail("cannot give the file its name", errno);
  temporary_.clear();
  sync_folder(folder_of(path_));
}

FileSource::FileSource(std::string path) : path_(std::move(path)) {
  const std::string where = fmt::format("file '{}'", path_);
  // O_NONBLOCK: a pipe must not hang us before we can refuse it.
  descriptor_ = open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor_ < 0) throw Error(ErrorCode::file_unreadable, system_message(errno), where);
  struct stat status;
  const bool is_file = fstat(descriptor_, &status) == 0 && S_ISREG(status.st_mode);
  if (!is_file) {
    close(descriptor_);
    throw Error(ErrorCode::file_unreadable, "it is not a regular file", where);
  }
  size_ = static_cast<std::uint64_t>(status.st_size);
  mode_ = status.st_mode & 07777;
}

FileSource::~FileSource() { close(descriptor_); }

void FileSource::check_is_private() const {
  if ((mode_ & (S_IRWXG | S_IRWXO)) == 0) return;
  throw Error(ErrorCode::key_exposed,
              fmt::format("it holds a secret, and its mode {:04o} lets others at it", mode_),
              fmt::format("file '{}'", path_),
              "chmod 600; and new keys, if somebody may have read it");
}

void FileSource::read(std::uint64_t offset, std::span<std::uint8_t> bytes) const {
  while (!bytes.empty()) {
    const ssize_t got = pread(descriptor_, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    const std::string where = fmt::format("file '{}'", path_);
    if (got < 0) throw Error(ErrorCode::file_unreadable, system_message(errno), where);
    if (got == 0) throw Error(ErrorCode::file_truncated, "it shrank while it was read", where);
    bytes = bytes.subspan(static_cast<std::size_t>(got));
    offset += static_cast<std::uint64_t>(got);
  }
}

void MemorySource::read(std::uint64_t offset, std::span<std::uint8_t> bytes) const {
  if (!bytes.empty()) std::memcpy(bytes.data(), bytes_.data() + offset, bytes.size());
}

}  // namespace torusml
