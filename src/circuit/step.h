// Tables that are steps: one value below a threshold, another from it on. Signs and other binary
// activations are.
//
//   std::optional<Step> step = as_step(table, row);
//   step->first;   // the least value that gives step->above
//
// Pure functions; O(entries).
#pragma once

#include <cstdint>
#include <optional>

#include "circuit/circuit.h"

namespace torusml {

// f(v) = v < first ? below : above. A constant row is a step in the middle of its domain.
struct Step {
  std::int64_t first = 0, below = 0, above = 0;
};

std::optional<Step> as_step(const Table& table, std::size_t row);

// The most values on either side of a step, over all rows of all tables; nullopt if some row is no
// step.
std::optional<std::uint64_t> step_reach(const Lut& lut);

}  // namespace torusml
