#include "plan/wire_size.h"

#include "tfhe/wire_words.h"

namespace torusml {

WireSize wire_size(const Circuit& circuit, const Plan& plan) {
  const auto elements = [&](ValueId value) {
    return static_cast<std::size_t>(number_of_elements(circuit.values[value].shape));
  };
  WireSize size;
  for (const Node* node : input_nodes(circuit))
    size.inputs += elements(std::get<Input>(node->op).result) * sizeof(Torus);
  const std::size_t words = plan.big_dimension().value + std::size_t{1};
  for (const auto& [node, output] : plan.outputs) {
    const ValueId operand = std::get<Output>(circuit.nodes[node].op).operand;
    size.outputs += packed_bytes(elements(operand) * words, output.wire_bits);
  }
  return size;
}

}  // namespace torusml
