#include "runtime/run_state.h"

#include <fmt/format.h>

#include <algorithm>

#include "runtime/memory.h"
#include "torusml/error.h"

namespace torusml {
namespace {

std::size_t size_of(const Circuit& circuit, ValueId value) {
  return static_cast<std::size_t>(number_of_elements(circuit.values[value].shape));
}

std::vector<ValueId> results_of(const Node& node) {
  if (const auto* input = std::get_if<Input>(&node.op)) return {input->result};
  if (const auto* linear = std::get_if<Linear>(&node.op)) return {linear->result};
  if (const auto* lut = std::get_if<Lut>(&node.op)) return lut->results;
  return {};
}

void require(bool condition, const std::string& where, const std::string& what) {
  if (condition) return;
  throw Error(ErrorCode::file_corrupt, what, where, "without this checkpoint the run begins anew");
}

void check_batch(const LweBatch& batch, LweDimension dimension, std::size_t count,
                 const std::string& where, const std::string& what) {
  require(batch.dimension == dimension && batch.count == count, where,
          fmt::format("{} has {} ciphertexts of dimension {}; {} of dimension {} are due", what,
                      batch.count, batch.dimension.value, count, dimension.value));
}

}  // namespace

std::vector<ValueId> live_values(const Circuit& circuit, std::size_t next_node) {
  const std::vector<std::size_t> last_use = last_uses(circuit);
  const std::vector<bool> is_clear = clear_values(circuit);
  std::vector<ValueId> live;
  for (std::size_t n = 0; n < next_node; ++n) {
    for (const ValueId value : results_of(circuit.nodes[n])) {
      if (last_use[value] >= next_node && !is_clear[value]) live.push_back(value);
    }
  }
  std::ranges::sort(live);
  return live;
}

void check_state(const RunState& state, const Circuit& circuit, LweDimension dimension,
                 std::size_t batch, const std::string& where) {
  const RunPosition& at = state.position;
  require(at.next_node <= circuit.nodes.size() && at.samples > 0 && at.samples <= batch &&
              at.first_sample <= batch - at.samples,
          where,
          fmt::format("the run stands at node {} of {}, in samples {} to {} of {}", at.next_node,
                      circuit.nodes.size(), at.first_sample, at.first_sample + at.samples, batch));
  std::vector<ValueId> values;
  for (const auto& [value, unused] : state.values) values.push_back(value);
  require(values == live_values(circuit, at.next_node), where,
          fmt::format("its {} tensors are not those that node {} and later ones read",
                      values.size(), at.next_node));
  for (const auto& [value, ciphertexts] : state.values) {
    check_batch(ciphertexts, dimension, at.samples * size_of(circuit, value), where,
                fmt::format("tensor {}", value));
  }
  const std::vector<const Node*> outputs = output_nodes(circuit);
  require(outputs.size() == state.outputs.size(), where,
          fmt::format("it has {} outputs, the model has {}", state.outputs.size(), outputs.size()));
  for (std::size_t o = 0; o < outputs.size(); ++o) {
    const ValueId operand = std::get<Output>(outputs[o]->op).operand;
    check_batch(state.outputs[o], dimension, batch * size_of(circuit, operand), where,
                fmt::format("output '{}'", outputs[o]->name));
  }
}

}  // namespace torusml
