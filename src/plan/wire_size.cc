#include "plan/wire_size.h"

#include "tfhe/ciphertext.h"
#include "tfhe/wire_words.h"

namespace torusml {

WireSize wire_size(const Circuit& circuit, const Plan& plan, std::size_t samples) {
  const auto elements = [&](ValueId value) {
    return samples * static_cast<std::size_t>(number_of_elements(circuit.values[value].shape));
  };
  WireSize size;
  for (const Node* node : input_nodes(circuit))
    size.inputs += elements(std::get<Input>(node->op).result) * sizeof(Torus);
  for (const auto& [node, output] : plan.outputs) {
    const ValueId operand = std::get<Output>(circuit.nodes[node].op).operand;
    size.outputs +=
        wire_bytes(plan.big_dimension(), elements(operand), output.wire_bits, output.packed);
  }
  return size;
}

std::uint64_t wire_bytes(LweDimension dimension, std::size_t results, int wire_bits, bool packed) {
  const std::size_t words = packed ? PackedResults::word_count(dimension, results)
                                   : results * (dimension.value + std::size_t{1});
  return packed_bytes(words, wire_bits);
}

}  // namespace torusml
