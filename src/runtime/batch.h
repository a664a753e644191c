// What the executors share: input checks, and taking samples out of batches and back.
#pragma once

#include <cstdint>
#include <vector>

#include "circuit/circuit.h"
#include "torusml/tensor.h"

namespace torusml {

// Number of samples. Errors wrong_shape (naming the input and both shapes) and invalid_argument (an
// integer outside its input's interval).
std::int64_t check_inputs(const Circuit& circuit, const std::vector<Tensor<std::int64_t>>& inputs);

// Empty result tensors, (batch, shape of the output).
std::vector<Tensor<std::int64_t>> make_outputs(const Circuit& circuit, std::int64_t batch);

}  // namespace torusml
