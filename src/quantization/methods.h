// How quantization after training chooses steps and integers.
#pragma once

#include <string>

namespace torusml {

enum class QuantizationMethod {
  compatible,  // Concrete ML's: min/max, one step for all weights of a layer
  minmax,      // this and the following: a step for every output channel of the weights
  percentile,
  mse,
  entropy,
  best,  // integers fitted to what the float network computes
};

// "minmax", "percentile", "mse", "entropy", "best"; "" and "compatible" are the same. Error
// unknown_option.
QuantizationMethod parse_quantization_method(const std::string& name);
std::string to_string(QuantizationMethod method);

}  // namespace torusml
