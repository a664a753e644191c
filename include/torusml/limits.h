// Bounds of one call. Nothing is global: every call has its own.
#pragma once

#include <cstdint>

namespace torusml {

struct Limits {
  // At most this many threads; 0: all that the process may use. Error invalid_argument when
  // negative.
  int threads = 0;
  // Keys, ciphertexts, tables and scratch of the call together, by the estimate of docs/memory.md;
  // 0: no limit. A batch is worked on in smaller parts before it is refused, and it is refused
  // before work begins: error memory_limit_exceeded.
  std::uint64_t memory_limit_bytes = 0;
};

}  // namespace torusml
