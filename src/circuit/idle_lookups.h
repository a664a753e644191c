// Elements of which no lookup is needed: those that are the same for all inputs, as a neuron whose
// weights quantization made 0, and those that nothing reads, as one that pruning cut off.
//
//   Circuit small = remove_idle_lookups(circuit);
//
// What is constant becomes part of the bias of the linear maps that read it. Tensors around a
// lookup that loses elements become flat; the circuit's inputs and outputs stay as they are. A
// lookup of which less than a 64th is idle stays as it is, and one whose removal would make large
// sparse weights irregular.
// Cost: O(entries of the weights), and an interval for each element.
#pragma once

#include "circuit/circuit.h"

namespace torusml {

Circuit remove_idle_lookups(const Circuit& circuit);

}  // namespace torusml
