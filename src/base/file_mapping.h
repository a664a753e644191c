// A file as read-only memory. All processes that map it share one physical copy.
//
//   FileMapping mapping("keys.prepared");
//   mapping.bytes();   // begins at a multiple of 2 MiB, as the file's byte 0
//
// It asks for huge pages, which the system gives where the file system keeps the file in such
// (docs/memory.md). Whoever cuts the file while it is mapped kills the process (SIGBUS), and
// whoever writes to it changes what is read here; to replace or to delete the name is harmless.
// Thread rule: const use is concurrent. Cost: nothing is read before it is touched.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace torusml {

class FileMapping {
 public:
  FileMapping() = default;
  // A regular file. Error file_unreadable.
  explicit FileMapping(const std::string& path);
  ~FileMapping();
  FileMapping(FileMapping&& other) noexcept;
  FileMapping& operator=(FileMapping other) noexcept;

  std::span<const std::uint8_t> bytes() const { return {data_, size_}; }

 private:
  const std::uint8_t* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace torusml
