// Are all floats finite? Without a branch on them unless one is not.
#pragma once

#include <span>
#include <string>

namespace torusml {

// Error non_finite_value names the first element that is infinite or not a number, and the tensor.
void check_finite(std::span<const double> values, const std::string& name = "");

}  // namespace torusml
