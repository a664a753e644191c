// A circuit, its plan and a half's tensors against each other, and which of the circuit's inputs
// are clear. Private to this room.
#pragma once

#include <string>
#include <vector>

#include "artifact/container.h"
#include "circuit/circuit.h"
#include "plan/plan.h"

namespace torusml {

// Executors index the plan by value and by node: it must have what the circuit has. Lookups of
// clear values, which were bootstrapped when the first files with clear inputs were written, are
// dropped from it. Error file_corrupt.
void check_plan(const ContainerReader& reader, const Circuit& circuit, Plan& plan);

// Marks the inputs of a circuit that was read: files say which ones are clear where they name them,
// not in the circuit's text. Spec: InputSpec or TensorName.
template <class Spec>
void mark_clear(Circuit& circuit, const std::vector<Spec>& inputs) {
  std::vector<bool> is_clear;
  for (const Spec& input : inputs) is_clear.push_back(input.is_clear);
  mark_clear(circuit, is_clear);
}

// A tensor goes by the name of its node. section: where `name` stands. Error file_corrupt.
void check_name(const ContainerReader& reader, const std::string& section, const std::string& name,
                const Node& node);

}  // namespace torusml
