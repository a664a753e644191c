// Bytes of one sample's ciphertexts on the wire, without what a file adds.
#pragma once

#include <cstdint>

#include "circuit/circuit.h"
#include "plan/plan.h"

namespace torusml {

// Inputs are bodies, whose masks a seed of 16 bytes stands for; outputs have masks, all words in
// the plan's bits.
struct WireSize {
  std::uint64_t inputs = 0, outputs = 0;
};
WireSize wire_size(const Circuit& circuit, const Plan& plan);

}  // namespace torusml
