// Buffers: cache-line aligned memory for kernels, and wiping memory for secrets.
//
// AlignedBuffer: 64-byte aligned; blocks of 2 MiB and more are 2 MiB aligned and ask for huge
// pages. SecretBuffer: the same, never copied, wiped before it is freed, kept out of core dumps.
// Thread rule: as for std::vector.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <span>
#include <type_traits>
#include <utility>

namespace torusml {

inline constexpr std::size_t kHugePageBytes = std::size_t{2} << 20;

void* allocate_aligned(std::size_t bytes);
// What allocate_aligned(bytes) takes, rounded to whole lines or huge pages.
std::size_t allocated_bytes(std::size_t bytes);
void free_aligned(void* pointer) noexcept;
void exclude_from_core_dump(void* pointer, std::size_t bytes) noexcept;
void include_in_core_dump(void* pointer, std::size_t bytes) noexcept;

// Overwrites in a way that the compiler may not drop.
void wipe(void* pointer, std::size_t bytes) noexcept;

// Test hook: called with each secret block after it was wiped and before it is freed. Empty by
// default.
using SecretReleaseHook = std::function<void(const void* pointer, std::size_t bytes)>;
void set_secret_release_hook(SecretReleaseHook hook);
void call_secret_release_hook(const void* pointer, std::size_t bytes) noexcept;

template <class T>
class AlignedBuffer {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  AlignedBuffer() = default;
  // Zero-filled.
  explicit AlignedBuffer(std::size_t size)
      : data_(static_cast<T*>(allocate_aligned(size * sizeof(T)))), size_(size) {
    if (size != 0) std::memset(static_cast<void*>(data_), 0, size * sizeof(T));
  }
  AlignedBuffer(const AlignedBuffer& other) : AlignedBuffer(other.size_) {
    if (size_ != 0) std::memcpy(static_cast<void*>(data_), other.data_, size_ * sizeof(T));
  }
  AlignedBuffer(AlignedBuffer&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  AlignedBuffer& operator=(AlignedBuffer other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  ~AlignedBuffer() { free_aligned(data_); }

  T* data() { return data_; }
  const T* data() const { return data_; }
  std::size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  T& operator[](std::size_t i) { return data_[i]; }
  const T& operator[](std::size_t i) const { return data_[i]; }
  T* begin() { return data_; }
  T* end() { return data_ + size_; }
  const T* begin() const { return data_; }
  const T* end() const { return data_ + size_; }
  operator std::span<T>() { return {data_, size_}; }
  operator std::span<const T>() const { return {data_, size_}; }

 private:
  T* data_ = nullptr;
  std::size_t size_ = 0;
};

template <class T>
class SecretBuffer {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  SecretBuffer() = default;
  explicit SecretBuffer(std::size_t size) : buffer_(size) {
    exclude_from_core_dump(buffer_.data(), size * sizeof(T));
  }
  SecretBuffer(const SecretBuffer&) = delete;
  SecretBuffer(SecretBuffer&&) noexcept = default;
  SecretBuffer& operator=(const SecretBuffer&) = delete;
  SecretBuffer& operator=(SecretBuffer&& other) noexcept {
    std::swap(buffer_, other.buffer_);
    return *this;
  }
  ~SecretBuffer() {
    if (buffer_.empty()) return;
    wipe(buffer_.data(), buffer_.size() * sizeof(T));
    call_secret_release_hook(buffer_.data(), buffer_.size() * sizeof(T));
    include_in_core_dump(buffer_.data(), buffer_.size() * sizeof(T));
  }

  T* data() { return buffer_.data(); }
  const T* data() const { return buffer_.data(); }
  std::size_t size() const { return buffer_.size(); }
  bool empty() const { return buffer_.empty(); }
  T& operator[](std::size_t i) { return buffer_[i]; }
  const T& operator[](std::size_t i) const { return buffer_[i]; }
  T* begin() { return buffer_.begin(); }
  T* end() { return buffer_.end(); }
  const T* begin() const { return buffer_.begin(); }
  const T* end() const { return buffer_.end(); }
  operator std::span<T>() { return buffer_; }
  operator std::span<const T>() const { return buffer_; }

 private:
  AlignedBuffer<T> buffer_;
};

}  // namespace torusml
