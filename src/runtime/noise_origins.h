// Which noise of a circuit's lookups and outputs is the same noise, for the simulator.
//
// The noise of keyswitch and modulus switch is a function of a ciphertext's mask, and so is that of
// rounding a result for the wire, but for its body's: values whose masks are equal, such as a + b
// and a + b + 1, meet it once, values with opposite masks its negative, and a value without mask (a
// constant) none. Packed results have noise of their places, each its own. The noise of a result is
// a function of mask, body and tables: what was computed twice is equal. Whether masks are equal
// follows from the circuit alone. Each fresh ciphertext and each result has a random tag, linear
// maps act on tags as they act on masks, and equal tags are taken as equal masks (wrong with
// probability 2^-64 a pair).
//
// Clear values have no mask, and a tag of their own in the body.
//
// Left out, and drawn for each: noise of wide lookups, of one mask's lookups with tables of
// different sizes or key sets, of equal tables at different places of two nodes, and what remains
// between masks that are other multiples of each other. Cost: what one sample costs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <vector>

#include "circuit/circuit.h"
#include "plan/plan.h"
#include "runtime/lookup_table.h"

namespace torusml {

struct NoiseOrigin {
  enum class Kind : std::uint8_t { drawn, kept, copied, absent };
  Kind kind = Kind::drawn;
  bool is_negative = false;  // copied with the other sign
  std::uint32_t slot = 0;    // where it is kept for others, or copied from
};

// Of a lookup node. An empty list: all are drawn.
struct LookupOrigins {
  std::vector<NoiseOrigin> inputs;                // by element
  std::vector<std::vector<NoiseOrigin>> results;  // by table, by element
};

struct NoiseOrigins {
  std::map<std::size_t, LookupOrigins> lookups;  // by node, ordinary lookups only
  // By node, of the rounding of an output's elements. An empty list: all are drawn.
  std::map<std::size_t, std::vector<NoiseOrigin>> outputs;
  std::size_t slots = 0;
};

// constants, tables: by node, as linear_constants and make_torus_tables give them.
NoiseOrigins find_noise_origins(const Circuit& circuit, const Plan& plan,
                                const std::map<std::size_t, std::vector<Torus>>& constants,
                                const std::map<std::size_t, std::vector<TorusTable>>& tables);

}  // namespace torusml
