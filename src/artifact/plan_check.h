// A plan against the circuit that it was read with. Private to this room.
#pragma once

#include "artifact/container.h"
#include "circuit/circuit.h"
#include "plan/plan.h"

namespace torusml {

// Executors index the plan by value and by node: it must have what the circuit has. Error
// file_corrupt.
void check_plan(const ContainerReader& reader, const Circuit& circuit, const Plan& plan);

}  // namespace torusml
