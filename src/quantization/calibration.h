// Checks of calibration data.
#pragma once

#include <vector>

#include "importer/float_graph.h"

namespace torusml {

// One tensor per input, (samples, shape...). Errors: empty_calibration,
// wrong_shape (naming both shapes), non_finite_value.
void check_calibration(const FloatGraph& graph, const std::vector<Tensor<double>>& calibration);

// Error constant_calibration, for an input of which all values are equal.
void check_not_constant(const FloatGraph& graph, const std::vector<Tensor<double>>& calibration);

}  // namespace torusml
