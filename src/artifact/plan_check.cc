#include "artifact/plan_check.h"

#include <fmt/format.h>

#include "circuit/step.h"

namespace torusml {

namespace {

void drop_clear_lookups(const Circuit& circuit, Plan& plan) {
  const std::vector<bool> is_clear = clear_values(circuit);
  for (std::size_t n = 0; n < circuit.nodes.size(); ++n) {
    const auto* lut = std::get_if<Lut>(&circuit.nodes[n].op);
    if (lut == nullptr || !is_clear[lut->operand] || plan.lookups.erase(n) == 0) continue;
    plan.lookup_count -= static_cast<std::int64_t>(lut->tables.size()) *
                         number_of_elements(circuit.values[lut->operand].shape);
  }
}

}  // namespace

void check_plan(const ContainerReader& reader, const Circuit& circuit, Plan& plan) {
  if (plan.tensors.size() != circuit.values.size()) {
    reader.corrupt("plan", fmt::format("it has {} tensors, the circuit has {}", plan.tensors.size(),
                                       circuit.values.size()));
  }
  drop_clear_lookups(circuit, plan);
  const std::vector<bool> is_clear = clear_values(circuit);
  std::size_t lookups = 0, outputs = 0;
  for (std::size_t n = 0; n < circuit.nodes.size(); ++n) {
    const Node& node = circuit.nodes[n];
    const auto* lut = std::get_if<Lut>(&node.op);
    const bool is_lookup = lut != nullptr && !is_clear[lut->operand];
    const bool is_output = std::holds_alternative<Output>(node.op);
    if ((is_lookup && !plan.lookups.contains(n)) || (is_output && !plan.outputs.contains(n)))
      reader.corrupt("plan", fmt::format("node {}, '{}', is missing", n, node.name));
    if (is_lookup && plan.lookups.at(n).is_odd && !step_reach(*lut))
      reader.corrupt(
          "plan", fmt::format("node {}, '{}', is odd, but its tables are no steps", n, node.name));
    lookups += is_lookup ? 1 : 0;
    outputs += is_output ? 1 : 0;
  }
  if (plan.lookups.size() != lookups || plan.outputs.size() != outputs)
    reader.corrupt("plan", "it has nodes that the circuit has not");
  if (plan.lookup_count != lookup_count(circuit))
    reader.corrupt("plan", fmt::format("it counts {} lookups, the circuit has {}",
                                       plan.lookup_count, lookup_count(circuit)));
  for (const auto& [node, lookup] : plan.lookups) {
    if (!plan.key_set_of(lookup).parameters.has_bootstrap())
      reader.corrupt("plan", "a key set has no bootstrap, but the circuit has lookups");
  }
}

void check_name(const ContainerReader& reader, const std::string& section, const std::string& name,
                const Node& node) {
  if (name != node.name)
    reader.corrupt(section, fmt::format("'{}' is called '{}' in the circuit", name, node.name));
}

}  // namespace torusml
