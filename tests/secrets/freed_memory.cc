#include "freed_memory.h"

#include <malloc.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "base/wiped.h"

namespace torusml {
namespace {

constexpr std::size_t kMostNeedles = 128, kMostBytes = 512, kMostName = 64;

// Nothing here may allocate: free calls it.
struct Needle {
  std::array<std::uint8_t, kMostBytes> bytes;
  std::size_t size;
  std::array<char, kMostName> name;
  std::atomic<bool> was_found;
};
std::array<Needle, kMostNeedles> needles;
std::atomic<std::size_t> needle_count = 0, blocks = 0;

bool is_zero(const void* pointer, std::size_t size) {
  const auto* bytes = static_cast<const std::uint8_t*>(pointer);
  return size == 0 || (bytes[0] == 0 && std::memcmp(bytes, bytes + 1, size - 1) == 0);
}

void look_at(void* pointer) {
  const std::size_t count = needle_count;
  if (count == 0) return;
  ++blocks;
  const std::size_t size = malloc_usable_size(pointer);
  if (is_zero(pointer, size)) return;  // the 128 MiB of scrypt, say
  for (std::size_t i = 0; i < count; ++i) {
    Needle& needle = needles[i];
    if (memmem(pointer, size, needle.bytes.data(), needle.size) != nullptr) needle.was_found = true;
  }
}

}  // namespace

FreedMemory::~FreedMemory() {
  needle_count = blocks = 0;
  for (Needle& needle : needles) needle.was_found = false;
}

void FreedMemory::forbid(const std::string& name, std::span<const std::uint8_t> bytes,
                         std::size_t window_bytes, std::size_t parts) {
  const std::size_t window = std::min({window_bytes, bytes.size(), kMostBytes});
  for (std::size_t part = 0; part < parts; ++part) {
    if (needle_count == kMostNeedles) std::abort();
    Needle& needle = needles[needle_count];
    const std::size_t at = parts == 1 ? 0 : (bytes.size() - window) * part / (parts - 1);
    std::copy_n(bytes.data() + at, window, needle.bytes.data());
    needle.size = window;
    needle.name.fill('\0');
    std::copy_n(name.data(), std::min(name.size(), kMostName - 1), needle.name.data());
    ++needle_count;
  }
}

void FreedMemory::forbid_key(std::span<const std::uint64_t> bits) {
  std::vector<std::uint8_t> bytes(bits.begin(), bits.end()), packed(bits.size() / 8);
  for (std::size_t i = 0; i < bits.size(); ++i)
    packed[i / 8] = static_cast<std::uint8_t>(packed[i / 8] | bits[i] << (i % 8));
  std::vector<double> doubles(bits.begin(), bits.end());
  // 48 bits of a random key are not anywhere by chance.
  forbid("key words", bytes_of(bits), 48 * sizeof(std::uint64_t));
  forbid("key bytes", bytes, 48);
  forbid("packed key", packed, 8);
  forbid("key as doubles", bytes_of(doubles), 48 * sizeof(double));
  wipe_elements(bytes);
  wipe_elements(packed);
  wipe_elements(doubles);
}

std::string FreedMemory::found() const {
  std::string all;
  for (std::size_t i = 0; i < needle_count; ++i) {
    const std::string name = needles[i].name.data();
    if (needles[i].was_found && all.find(name) == std::string::npos)
      all += (all.empty() ? "" : ", ") + name;
  }
  return all;
}

std::size_t FreedMemory::blocks_seen() const { return blocks; }

}  // namespace torusml

extern "C" {

void __libc_free(void* pointer);
void* __libc_malloc(size_t bytes);

// What is given back is cleared after the look, watched or not: what is found in a block was
// written by its owner, and is no rest of an owner before.
void free(void* pointer) {
  if (pointer == nullptr) return;
  torusml::look_at(pointer);
  std::memset(pointer, 0, malloc_usable_size(pointer));
  __libc_free(pointer);
}

// Moves always, so that free sees what was there.
void* realloc(void* pointer, size_t bytes) {
  if (pointer == nullptr) return __libc_malloc(bytes);
  if (bytes == 0) {
    free(pointer);
    return nullptr;
  }
  void* moved = __libc_malloc(bytes);
  if (moved == nullptr) return nullptr;
  std::memcpy(moved, pointer, std::min(bytes, malloc_usable_size(pointer)));
  free(pointer);
  return moved;
}
}
