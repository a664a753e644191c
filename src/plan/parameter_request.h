// What the readers of a circuit ask of key sets: one noise constraint each.
#pragma once

#include <vector>

#include "parameters/optimizer.h"
#include "plan/readers.h"

namespace torusml {

// In the order of readers. may_use_wide: as in torus_scales.h. Cost: noise norms of the circuit.
ParameterRequest make_parameter_request(const Circuit& circuit, const PlanOptions& options,
                                        const std::vector<Reader>& readers, double kappa,
                                        bool may_use_wide);

}  // namespace torusml
