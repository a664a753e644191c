// What the executors share: input checks, and taking samples out of batches and back.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "circuit/circuit.h"
#include "torusml/tensor.h"

namespace torusml {

// Number of samples of one input. Errors as below.
std::int64_t check_input(const TensorType& type, const Tensor<std::int64_t>& input,
                         const std::string& name);

// Number of samples. Errors wrong_shape (naming the input and both shapes) and invalid_argument (an
// integer outside its input's interval: the first one, by its place and value).
std::int64_t check_inputs(const Circuit& circuit, const std::vector<Tensor<std::int64_t>>& inputs);

// Empty result tensors, (batch, shape of the output).
std::vector<Tensor<std::int64_t>> make_outputs(const Circuit& circuit, std::int64_t batch);

}  // namespace torusml
