#include "runtime/batch.h"

#include <fmt/format.h>

#include <algorithm>

#include "torusml/error.h"

namespace torusml {

std::int64_t check_input(const TensorType& type, const Tensor<std::int64_t>& input,
                         const std::string& name) {
  const std::string where = fmt::format("input '{}'", name);
  const Shape& shape = input.shape;
  const bool matches = shape.size() == type.shape.size() + 1 && shape[0] > 0 &&
                       std::equal(type.shape.begin(), type.shape.end(), shape.begin() + 1) &&
                       static_cast<std::int64_t>(input.data.size()) == number_of_elements(shape);
  if (!matches) {
    throw Error(ErrorCode::wrong_shape,
                fmt::format("shape {} was given, a batch of {} is expected", to_string(shape),
                            to_string(type.shape)),
                where);
  }
  const auto elements = static_cast<std::size_t>(number_of_elements(type.shape));
  for (std::size_t i = 0; i < input.data.size(); ++i) {
    if (type.interval.contains(input.data[i])) continue;
    throw Error(
        ErrorCode::invalid_argument,
        fmt::format("element {} of sample {} is {}, outside the input's interval [{}, {}]",
                    i % elements, i / elements, input.data[i], type.interval.lower,
                    type.interval.upper),
        where,
        "quantize the input with the model's quantizer; an index must be a row of its table");
  }
  return shape[0];
}

std::int64_t check_inputs(const Circuit& circuit, const std::vector<Tensor<std::int64_t>>& inputs) {
  const std::vector<const Node*> nodes = input_nodes(circuit);
  if (inputs.size() != nodes.size()) {
    throw Error(ErrorCode::wrong_shape, fmt::format("{} inputs were given, the circuit has {}",
                                                    inputs.size(), nodes.size()));
  }
  std::int64_t batch = -1;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const TensorType& type = circuit.values[std::get<Input>(nodes[i]->op).result];
    const std::int64_t samples = check_input(type, inputs[i], nodes[i]->name);
    if (batch != -1 && samples != batch) {
      throw Error(ErrorCode::wrong_shape,
                  fmt::format("{} samples were given, other inputs have {}", samples, batch),
                  fmt::format("input '{}'", nodes[i]->name));
    }
    batch = samples;
  }
  return std::max<std::int64_t>(batch, 1);
}

std::vector<Tensor<std::int64_t>> make_outputs(const Circuit& circuit, std::int64_t batch) {
  std::vector<Tensor<std::int64_t>> outputs;
  for (const Node* node : output_nodes(circuit)) {
    Shape shape{batch};
    const Shape& sample = circuit.values[std::get<Output>(node->op).operand].shape;
    shape.insert(shape.end(), sample.begin(), sample.end());
    const auto elements = static_cast<std::size_t>(number_of_elements(shape));
    outputs.push_back({std::move(shape), std::vector<std::int64_t>(elements)});
  }
  return outputs;
}

}  // namespace torusml
