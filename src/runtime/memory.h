// How much memory an encrypted run takes, before it starts, and how to stay under a limit.
//
//   MemoryEstimate estimate = estimate_memory(circuit, plan, {.batch = 32, .at_once = 8,
//                                                             .threads = 2});
//   estimate.total();   // bytes, most of them at estimate.layer
//   std::size_t at_once = choose_samples_at_once(circuit, plan, batch, limits);
//
// Formula: docs/memory.md. It follows run_encrypted step by step; what it leaves out is small: the
// model, the wire form of inputs, and memory that the allocator keeps.
// Thread rule: pure functions. Cost: O(nodes * values).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "circuit/circuit.h"
#include "plan/plan.h"
#include "torusml/limits.h"

namespace torusml {

struct RunSize {
  std::size_t batch = 1;    // samples given
  std::size_t at_once = 1;  // samples worked on together
  int threads = 1;
};

// Bytes when they are most, and the layer at which that is.
struct MemoryEstimate {
  std::uint64_t keys = 0, ciphertexts = 0, tables = 0, scratch = 0;
  std::string layer;

  std::uint64_t total() const { return keys + ciphertexts + tables + scratch; }
};

MemoryEstimate estimate_memory(const Circuit& circuit, const Plan& plan, const RunSize& size);

// Samples that run_encrypted works on together: as many as keep all cores busy, and fewer where the
// limit asks for it. Error memory_limit_exceeded when one is too many.
std::size_t choose_samples_at_once(const Circuit& circuit, const Plan& plan, std::size_t batch,
                                   const Limits& limits);

// Error memory_limit_exceeded when keys of these key sets, in wire form and prepared, exceed the
// limit. `held`: bytes of keys that are prepared already.
void check_key_memory(const std::vector<TfheParameters>& key_sets, std::uint64_t held,
                      const Limits& limits);

// By value, the last node that reads it; 0 if none does.
std::vector<std::size_t> last_uses(const Circuit& circuit);

}  // namespace torusml
