// A circuit, its plan and a half's tensors against each other. Private to this room.
#pragma once

#include <string>

#include "artifact/container.h"
#include "circuit/circuit.h"
#include "plan/plan.h"

namespace torusml {

// Executors index the plan by value and by node: it must have what the circuit has. Error
// file_corrupt.
void check_plan(const ContainerReader& reader, const Circuit& circuit, const Plan& plan);

// A tensor goes by the name of its node. section: where `name` stands. Error file_corrupt.
void check_name(const ContainerReader& reader, const std::string& section, const std::string& name,
                const Node& node);

}  // namespace torusml
