#include "parameters/cost.h"
#include "parameters/wire_noise.h"
#include "plan/plan.h"

namespace torusml {

std::vector<TfheParameters> parameters_of(const std::vector<KeySet>& key_sets) {
  std::vector<TfheParameters> parameters;
  for (const KeySet& set : key_sets) parameters.push_back(set.parameters);
  return parameters;
}

std::string names_of(const std::vector<KeySet>& key_sets) {
  std::string names;
  for (const KeySet& set : key_sets) names += (names.empty() ? "" : " + ") + set.name;
  return names;
}

KeyBytes key_bytes(const std::vector<KeySet>& key_sets) {
  KeyBytes total;
  for (const KeySet& set : key_sets) {
    const KeyBytes bytes = key_bytes(set.parameters);
    total.memory += bytes.memory;
    total.wire += bytes.wire;
  }
  return total;
}

std::vector<std::int64_t> lookups_by_key_set(const Plan& plan, const Circuit& circuit) {
  std::vector<std::int64_t> lookups(plan.key_sets.size(), 0);
  for (const auto& [node, lookup] : plan.lookups) {
    const Lut& lut = std::get<Lut>(circuit.nodes[node].op);
    lookups[lookup.key_set] += static_cast<std::int64_t>(lut.tables.size()) *
                               number_of_elements(circuit.values[lut.operand].shape);
  }
  return lookups;
}

std::optional<std::size_t> packing_key_set(const std::vector<KeySet>& key_sets) {
  for (std::size_t s = 0; s < key_sets.size(); ++s) {
    const TfheParameters& p = key_sets[s].parameters;
    if (p.has_bootstrap() && p.has_trace() && p.glwe_dimension.value == 1) return s;
  }
  return std::nullopt;
}

Variance wire_noise(const std::vector<KeySet>& key_sets, int wire_bits, bool packed) {
  Variance noise = wire_rounding_variance(key_sets.front().parameters.big_dimension(), wire_bits);
  if (packed)
    noise.value += result_packing_variance(key_sets[*packing_key_set(key_sets)].parameters).value;
  return noise;
}

}  // namespace torusml
