// The part of a circuit that depends on clear inputs alone, as integers: exact, without noise, and
// at the cost of a run in the clear. What nodes that ciphertexts reach take from it are integers,
// too: a clear term of a linear map is a bias of the sample.
//
//   const ClearResults clear = run_clear_part(circuit, inputs, first, samples);
//   clear.at(node)[sample * elements + i]
//
// Integers beyond their interval, which run_clear refuses, are what phases would be: a table has
// its end entries for them, an output its own end. Thread rule: pure function, parallel inside.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <vector>

#include "circuit/circuit.h"
#include "torusml/tensor.h"

namespace torusml {

// Whether the clear part computes all of a node; of outputs it has the integers, no more.
// is_clear: clear_values(circuit).
bool is_clear_node(const Node& node, const std::vector<bool>& is_clear);

// By node, (samples, elements): of a linear map what its clear terms add up to, of an output its
// integers. Nodes that have no clear operand are left out, and those whose results are clear.
using ClearResults = std::map<std::size_t, std::vector<std::int64_t>>;

// inputs: by input, (batch, shape...), of which those that are not clear are not looked at.
ClearResults run_clear_part(const Circuit& circuit, const std::vector<Tensor<std::int64_t>>& inputs,
                            std::size_t first_sample, std::size_t samples);

}  // namespace torusml
