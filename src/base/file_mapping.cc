#include "base/file_mapping.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>
#include <utility>

#include "base/memory.h"
#include "torusml/error.h"

namespace torusml {
namespace {

class Descriptor {
 public:
  // O_NONBLOCK: a pipe must not hang us before we can refuse it.
  explicit Descriptor(const std::string& path)
      : value_(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)) {}
  ~Descriptor() {
    if (value_ >= 0) close(value_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;

  int value() const { return value_; }

 private:
  int value_;
};

std::size_t round_up(std::size_t value, std::size_t unit) {
  return (value + unit - 1) / unit * unit;
}

// `size` bytes of the file at a multiple of 2 MiB, which mmap alone does not promise: addresses are
// reserved first, and those around the mapping given back. MAP_FAILED and errno as mmap gives them.
void* map_aligned(int descriptor, std::size_t size) {
  const std::size_t page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  const std::size_t length = round_up(size, page), reserved = length + kHugePageBytes;
  void* room =
      mmap(nullptr, reserved, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (room == MAP_FAILED) return MAP_FAILED;
  auto* begin = static_cast<std::uint8_t*>(room);
  const std::size_t before = round_up(reinterpret_cast<std::size_t>(begin), kHugePageBytes) -
                             reinterpret_cast<std::size_t>(begin);
  void* data = mmap(begin + before, length, PROT_READ, MAP_SHARED | MAP_FIXED, descriptor, 0);
  if (data == MAP_FAILED) {
    const int error = errno;
    munmap(room, reserved);
    errno = error;
    return MAP_FAILED;
  }
  if (before != 0) munmap(begin, before);
  munmap(begin + before + length, kHugePageBytes - before);
  madvise(data, length, MADV_HUGEPAGE);
  return data;
}

}  // namespace

FileMapping::FileMapping(const std::string& path) {
  const auto fail = [&](const std::string& what) {
    throw Error(ErrorCode::file_unreadable, what, fmt::format("file '{}'", path));
  };
  const Descriptor descriptor(path);
  if (descriptor.value() < 0) fail(std::generic_category().message(errno));
  struct stat status;
  if (fstat(descriptor.value(), &status) != 0 || !S_ISREG(status.st_mode))
    fail("it is not a regular file");
  const auto size = static_cast<std::size_t>(status.st_size);
  if (size == 0) return;
  void* data = map_aligned(descriptor.value(), size);
  if (data == MAP_FAILED) fail("it cannot be mapped: " + std::generic_category().message(errno));
  data_ = static_cast<const std::uint8_t*>(data);
  size_ = size;
}

FileMapping::~FileMapping() {
  if (data_ != nullptr) munmap(const_cast<std::uint8_t*>(data_), size_);
}

FileMapping::FileMapping(FileMapping&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

FileMapping& FileMapping::operator=(FileMapping other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

}  // namespace torusml
