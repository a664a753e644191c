// Bytes of ciphertexts on the wire, without what a file adds.
#pragma once

#include <cstdint>

#include "circuit/circuit.h"
#include "plan/plan.h"

namespace torusml {

// Inputs are bodies, whose masks a seed of 16 bytes stands for; outputs have masks, all words in
// the plan's bits, and where they are packed a mask for N of them.
struct WireSize {
  std::uint64_t inputs = 0, outputs = 0;
};
// Of so many samples in one request.
WireSize wire_size(const Circuit& circuit, const Plan& plan, std::size_t samples = 1);

// Of so many results under a big key of this dimension.
std::uint64_t wire_bytes(LweDimension dimension, std::size_t results, int wire_bits, bool packed);

}  // namespace torusml
