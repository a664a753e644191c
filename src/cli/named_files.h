// "--input x.npy" of a model with one input; "--input a=x.npy --input b=y.npy" of one with several.
//
//   std::vector<std::string> paths = resolve_files(arguments, {"a", "b"}, "--input");
//
// Thread rule: pure functions.
#pragma once

#include <string>
#include <vector>

#include "torusml/tensor.h"

namespace torusml {

// One path per name, in the order of the names. Error invalid_argument lists the names.
std::vector<std::string> resolve_files(const std::vector<std::string>& arguments,
                                       const std::vector<std::string>& names,
                                       const std::string& option);

// The same, read as .npy.
std::vector<Tensor<double>> read_named_arrays(const std::vector<std::string>& arguments,
                                              const std::vector<std::string>& names,
                                              const std::string& option);

}  // namespace torusml
