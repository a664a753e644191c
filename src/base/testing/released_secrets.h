// For tests: secret blocks that are freed while this lives.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "base/memory.h"

namespace torusml {

// One at a time.
class ReleasedSecrets {
 public:
  ReleasedSecrets() {
    set_secret_release_hook([this](const void* pointer, std::size_t size) {
      ++blocks_;
      bytes_ += size;
      const auto* data = static_cast<const std::uint8_t*>(pointer);
      not_zero_ += size - static_cast<std::size_t>(std::count(data, data + size, 0));
    });
  }
  ~ReleasedSecrets() { set_secret_release_hook({}); }
  ReleasedSecrets(const ReleasedSecrets&) = delete;

  std::size_t blocks() const { return blocks_; }
  std::size_t bytes() const { return bytes_; }
  std::size_t not_zero() const { return not_zero_; }  // bytes that were not wiped

 private:
  std::size_t blocks_ = 0, bytes_ = 0, not_zero_ = 0;
};

}  // namespace torusml
