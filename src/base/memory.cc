#include "base/memory.h"

#include <openssl/crypto.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>
#include <mutex>
#include <new>

namespace torusml {
namespace {

constexpr std::size_t kCacheLine = 64;

std::mutex hook_mutex;
SecretReleaseHook release_hook;

std::size_t round_up(std::size_t bytes, std::size_t unit) {
  return (bytes + unit - 1) / unit * unit;
}

std::size_t alignment_of(std::size_t bytes) {
  return bytes >= kHugePageBytes ? kHugePageBytes : kCacheLine;
}

void advise_whole_pages(void* pointer, std::size_t bytes, int advice) noexcept {
  const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  const auto first = round_up(reinterpret_cast<std::size_t>(pointer), page);
  const auto last = (reinterpret_cast<std::size_t>(pointer) + bytes) / page * page;
  if (last > first) madvise(reinterpret_cast<void*>(first), last - first, advice);
}

}  // namespace

void* allocate_aligned(std::size_t bytes) {
  if (bytes == 0) return nullptr;
  const std::size_t alignment = alignment_of(bytes);
  if (bytes > SIZE_MAX - alignment) throw std::bad_alloc();
  void* pointer = std::aligned_alloc(alignment, allocated_bytes(bytes));
  if (pointer == nullptr) throw std::bad_alloc();
  if (alignment == kHugePageBytes) madvise(pointer, allocated_bytes(bytes), MADV_HUGEPAGE);
  return pointer;
}

std::size_t allocated_bytes(std::size_t bytes) { return round_up(bytes, alignment_of(bytes)); }

void free_aligned(void* pointer) noexcept { std::free(pointer); }

// Advice works on whole pages; a secret smaller than a page shares its page and is only wiped.
void exclude_from_core_dump(void* pointer, std::size_t bytes) noexcept {
  advise_whole_pages(pointer, bytes, MADV_DONTDUMP);
}

void include_in_core_dump(void* pointer, std::size_t bytes) noexcept {
  advise_whole_pages(pointer, bytes, MADV_DODUMP);
}

void wipe(void* pointer, std::size_t bytes) noexcept {
  if (pointer != nullptr) OPENSSL_cleanse(pointer, bytes);
}

void set_secret_release_hook(SecretReleaseHook hook) {
  std::lock_guard lock(hook_mutex);
  release_hook = std::move(hook);
}

void call_secret_release_hook(const void* pointer, std::size_t bytes) noexcept {
  std::lock_guard lock(hook_mutex);
  if (release_hook) release_hook(pointer, bytes);
}

}  // namespace torusml
