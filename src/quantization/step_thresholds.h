// A table's function of floats as thresholds: how many of them a number reaches is its integer.
#pragma once

#include <Eigen/Core>
#include <functional>
#include <optional>
#include <vector>

#include "importer/float_graph.h"
#include "torusml/quantizer.h"

namespace torusml {

// quantizer(function(y)) of each element is quantizer.lowest() + how many thresholds of its row y
// reaches; elements x (integers - 1), minus or plus infinity where a step lies beyond twice the
// range of `values` (samples of the function's operand). None if the function is not rising, which
// `values` show, or not finite there. function: elementwise, of any batch. Cost: some 40
// evaluations of as many samples as there are integers.
std::optional<Eigen::ArrayXXf> step_thresholds(
    const FloatTensor& values, const UniformQuantizer& quantizer,
    const std::function<std::vector<double>(const FloatTensor&)>& function);

}  // namespace torusml
