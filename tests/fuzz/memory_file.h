// A file of mode 0600 in memory, for readers that take a path. Tests only.
#pragma once

#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <stdexcept>
#include <string>
#include <string_view>

namespace torusml::fuzz {

class MemoryFile {
 public:
  explicit MemoryFile(std::string_view bytes) : descriptor_(memfd_create("fuzz", MFD_CLOEXEC)) {
    check(descriptor_ >= 0 && fchmod(descriptor_, 0600) == 0);
    write_at(0, bytes);
  }
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;
  ~MemoryFile() { close(descriptor_); }

  void write_at(std::size_t offset, std::string_view bytes) {
    check(pwrite(descriptor_, bytes.data(), bytes.size(), static_cast<off_t>(offset)) ==
          static_cast<ssize_t>(bytes.size()));
  }
  void resize(std::size_t size) { check(ftruncate(descriptor_, static_cast<off_t>(size)) == 0); }
  std::string path() const { return "/proc/self/fd/" + std::to_string(descriptor_); }

 private:
  static void check(bool is_well) {
    if (!is_well) throw std::runtime_error("no memory file");
  }

  int descriptor_;
};

}  // namespace torusml::fuzz
