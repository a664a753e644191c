// An allocator hook: what the program gives back to the allocator is searched for bytes that must
// not be there. The object file takes the place of free and realloc for the whole program, shared
// libraries included; stacks and memory that is never given back are not seen.
//
//   FreedMemory watch;
//   watch.forbid("the key", bytes_of(key.big));
//   ... what is to be looked at ...
//   EXPECT_EQ(watch.found(), "");
//
// Thread rule: one FreedMemory at a time; other threads may give memory back meanwhile.
#pragma once

#include <cstdint>
#include <span>
#include <string>

namespace torusml {

inline std::span<const std::uint8_t> bytes_of(const auto& values) {
  return {reinterpret_cast<const std::uint8_t*>(values.data()),
          values.size() * sizeof(*values.data())};
}

class FreedMemory {
 public:
  FreedMemory() = default;
  ~FreedMemory();
  FreedMemory(const FreedMemory&) = delete;
  FreedMemory& operator=(const FreedMemory&) = delete;

  // Parts of `bytes`, of window_bytes each, that start at `parts` places. The bytes are copied.
  void forbid(const std::string& name, std::span<const std::uint8_t> bytes,
              std::size_t window_bytes = 16, std::size_t parts = 4);
  // A key of words 0 and 1 in the forms that it could have: these words, bytes, packed bits, and
  // doubles.
  void forbid_key(std::span<const std::uint64_t> bits);

  // Names of what was found, with commas.
  std::string found() const;
  std::size_t blocks_seen() const;
};

}  // namespace torusml
