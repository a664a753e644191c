// State of a SecretGenerator. Internal to this room.
#pragma once

#include <sys/types.h>

#include <array>
#include <cstdint>
#include <optional>

#include "base/memory.h"
#include "random/aes_ctr.h"
#include "random/generator.h"

namespace torusml {

struct SecretGenerator::State {
  enum class Origin { operating_system, test };

  State();  // from the system
  State(const std::array<std::uint8_t, 16>& seed, Origin origin);

  // The stream; reseeded by the system first if this process was forked since the last call.
  AesCtr& stream();
  std::uint64_t* scratch(std::size_t words);
  Origin origin() const { return origin_; }

 private:
  Origin origin_;
  pid_t process_;
  std::uint64_t forks_;
  std::optional<AesCtr> stream_;
  SecretBuffer<std::uint64_t> scratch_;
};

}  // namespace torusml
