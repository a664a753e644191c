#include "registry/data_folder.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <memory>
#include <system_error>
#include <utility>

#include "torusml/error.h"

namespace torusml {
namespace {

constexpr std::size_t kPiece = std::size_t{1} << 20;
// Bytes that may wait in memory before their way to disk begins: sync() then has little to wait
// for.
constexpr std::uint64_t kStartWriting = std::uint64_t{8} << 20;

struct CloseStream {
  void operator()(DIR* stream) const { closedir(stream); }
};

std::string system_message(int error) { return std::generic_category().message(error); }

bool is_full(int error) { return error == ENOSPC || error == EDQUOT || error == EFBIG; }

[[noreturn]] void fail_at(const std::string& path, int error, ErrorCode code) {
  const std::string where = fmt::format("file '{}'", path);
  if (is_full(error))
    throw Error(ErrorCode::server_busy, "the disk is full", where, "make room on it");
  throw Error(code, system_message(error), where);
}

}  // namespace

Descriptor& Descriptor::operator=(Descriptor&& other) noexcept {
  std::swap(value_, other.value_);
  return *this;
}

Descriptor::~Descriptor() {
  if (value_ >= 0) close(value_);
}

void DataFile::fail(int error) const { fail_at(path_, error, ErrorCode::file_unwritable); }

void DataFile::write(std::span<const std::uint8_t> bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(descriptor_.get(), bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail(errno);
    bytes = bytes.subspan(static_cast<std::size_t>(written));
    written_ += static_cast<std::uint64_t>(written);
  }
  if (written_ - started_ < kStartWriting) return;
  // A hint: sync() is what counts.
  sync_file_range(descriptor_.get(), 0, 0, SYNC_FILE_RANGE_WRITE);
  started_ = written_;
}

void DataFile::reserve(std::uint64_t bytes) {
  if (fallocate(descriptor_.get(), FALLOC_FL_KEEP_SIZE, 0, static_cast<off_t>(bytes)) == 0) return;
  if (is_full(errno)) fail(errno);
}

void DataFile::truncate(std::uint64_t bytes) {
  const auto size = static_cast<off_t>(bytes);
  if (ftruncate(descriptor_.get(), size) != 0 || lseek(descriptor_.get(), size, SEEK_SET) != size)
    fail(errno);
}

void DataFile::sync() {
  if (fdatasync(descriptor_.get()) != 0) fail(errno);
}

std::uint64_t DataFile::size() const {
  struct stat status;
  if (fstat(descriptor_.get(), &status) != 0) fail_at(path_, errno, ErrorCode::file_unreadable);
  return static_cast<std::uint64_t>(status.st_size);
}

void DataFile::read(const std::function<void(std::span<const std::uint8_t>)>& sink) const {
  std::vector<std::uint8_t> piece(kPiece);
  for (off_t at = 0;;) {
    const ssize_t got = pread(descriptor_.get(), piece.data(), piece.size(), at);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail_at(path_, errno, ErrorCode::file_unreadable);
    if (got == 0) return;
    sink(std::span(piece).first(static_cast<std::size_t>(got)));
    at += got;
  }
}

DataFolder::DataFolder(const std::string& path) {
  const auto fail = [&](const std::string& what, const char* hint = "") {
    throw Error(ErrorCode::file_unwritable, what, fmt::format("folder '{}'", path), hint);
  };
  if (mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) fail(system_message(errno));
  // SQLite refuses links anywhere in a path, and those above the folder are the operator's.
  const std::unique_ptr<char, decltype(&std::free)> real(realpath(path.c_str(), nullptr),
                                                         &std::free);
  if (real == nullptr) fail(system_message(errno));
  path_ = real.get();
  descriptor_ = Descriptor(::open(path_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW));
  if (descriptor_.get() < 0) fail(system_message(errno));
  struct stat status;
  if (fstat(descriptor_.get(), &status) != 0) fail(system_message(errno));
  if ((status.st_mode & (S_IWGRP | S_IWOTH)) != 0)
    fail(fmt::format("its mode {:04o} lets others write to it", status.st_mode & 07777),
         "chmod 700");
}

DataFolder DataFolder::subfolder(const std::string& name) const {
  if (mkdirat(descriptor_.get(), name.c_str(), 0700) == 0)
    sync();
  else if (errno != EEXIST)
    fail_at(path_of(name), errno, ErrorCode::file_unwritable);
  std::optional<DataFolder> folder = find_subfolder(name);
  if (!folder) fail_at(path_of(name), ENOTDIR, ErrorCode::file_unwritable);
  return *std::move(folder);
}

std::optional<DataFolder> DataFolder::find_subfolder(const std::string& name) const {
  Descriptor descriptor(
      openat(descriptor_.get(), name.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW));
  if (descriptor.get() < 0 && (errno == ENOENT || errno == ENOTDIR || errno == ELOOP))
    return std::nullopt;
  if (descriptor.get() < 0) fail_at(path_of(name), errno, ErrorCode::file_unwritable);
  return DataFolder(std::move(descriptor), path_of(name));
}

DataFile DataFolder::create(const std::string& name) const { return create(name, O_TRUNC); }

DataFile DataFolder::create_missing(const std::string& name) const { return create(name, 0); }

DataFile DataFolder::create(const std::string& name, int flags) const {
  Descriptor descriptor(openat(descriptor_.get(), name.c_str(),
                               O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | flags, 0600));
  if (descriptor.get() < 0) fail_at(path_of(name), errno, ErrorCode::file_unwritable);
  return DataFile(std::move(descriptor), path_of(name));
}

std::optional<DataFile> DataFolder::open(const std::string& name) const {
  Descriptor descriptor(
      openat(descriptor_.get(), name.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  if (descriptor.get() < 0 && errno == ENOENT) return std::nullopt;
  if (descriptor.get() < 0) fail_at(path_of(name), errno, ErrorCode::file_unreadable);
  return DataFile(std::move(descriptor), path_of(name));
}

std::optional<std::uint64_t> DataFolder::size_of(const std::string& name) const {
  struct stat status;
  if (fstatat(descriptor_.get(), name.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0 ||
      !S_ISREG(status.st_mode))
    return std::nullopt;
  return static_cast<std::uint64_t>(status.st_size);
}

void DataFolder::rename(const std::string& from, const std::string& to) const {
  if (renameat(descriptor_.get(), from.c_str(), descriptor_.get(), to.c_str()) != 0)
    fail_at(path_of(to), errno, ErrorCode::file_unwritable);
}

bool DataFolder::remove(const std::string& name) const noexcept {
  return unlinkat(descriptor_.get(), name.c_str(), 0) == 0;
}

bool DataFolder::remove_folder(const std::string& name) const noexcept {
  return unlinkat(descriptor_.get(), name.c_str(), AT_REMOVEDIR) == 0;
}

std::vector<std::string> DataFolder::names() const {
  const int copy = openat(descriptor_.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  const std::unique_ptr<DIR, CloseStream> stream(copy < 0 ? nullptr : fdopendir(copy));
  if (stream == nullptr) fail_at(path_, errno, ErrorCode::file_unreadable);
  std::vector<std::string> names;
  while (const dirent* entry = readdir(stream.get())) {
    const std::string_view name = entry->d_name;
    if (name != "." && name != "..") names.emplace_back(name);
  }
  return names;
}

void DataFolder::sync() const {
  if (fsync(descriptor_.get()) != 0) fail_at(path_, errno, ErrorCode::file_unwritable);
}

std::string DataFolder::path_of(const std::string& name) const { return path_ + "/" + name; }

bool DataFolder::lock(const std::string& name) {
  lock_ = Descriptor(
      openat(descriptor_.get(), name.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (lock_.get() < 0) fail_at(path_of(name), errno, ErrorCode::file_unwritable);
  if (flock(lock_.get(), LOCK_EX | LOCK_NB) == 0) return true;
  if (errno != EWOULDBLOCK) fail_at(path_of(name), errno, ErrorCode::file_unwritable);
  return false;
}

}  // namespace torusml
