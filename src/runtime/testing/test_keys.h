// For tests: keys of no security, plans made for them, and runs between encryption and decryption.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "circuit/circuit.h"
#include "parameters/noise.h"
#include "plan/client_spec.h"
#include "plan/plan.h"
#include "runtime/executors.h"
#include "tfhe/result_packing.h"
#include "tfhe/secret_keys.h"
#include "tfhe/testing/insecure_parameters.h"

namespace torusml {

using Integers = std::vector<Tensor<std::int64_t>>;

// The first rotations that meet a constraint, of those with one table at a time or of all.
inline std::optional<RotationShape> least_rotation(const NoiseConstraint& c, const KeySet& set,
                                                   bool may_share, double& noise) {
  constexpr std::uint32_t kMostExtension = 7;
  const TfheParameters& p = set.parameters;
  for (const RotationShape& shape : rotation_shapes(may_share ? c.tables : 1, kMostExtension)) {
    const std::size_t size = shape.table_size(p.polynomial_size);
    if (size < 2 * c.values) continue;
    const double total =
        noise + set.keyswitch.value + modulus_switch_variance(p.small_dimension, 2 * size).value;
    const double limit = c.limit_sigma - c.table_step_weight / (4.0 * static_cast<double>(size));
    if (limit <= 0 || total > limit * limit) continue;
    noise = total;
    return shape;
  }
  return std::nullopt;
}

// A search that knows one key set: its noise, and the coarsest tables that meet the constraints.
inline ParameterSearch only(const TfheParameters& parameters, bool may_share = true) {
  return [parameters, may_share](const ParameterRequest& request,
                                 std::string*) -> std::optional<ParameterChoice> {
    ParameterChoice choice;
    choice.key_sets = {make_key_set(parameters)};
    choice.set_of.assign(request.constraints.size(), 0);
    choice.fresh = parameters.glwe_variance;
    const Variance bootstrap = blind_rotation_variance(parameters);
    for (const NoiseConstraint& c : request.constraints) {
      double noise = c.fresh_norm2 * choice.fresh.value + c.bootstrap_norm2 * bootstrap.value;
      RotationShape shape;
      if (c.is_lookup) {
        const auto found = least_rotation(c, choice.key_sets[0], may_share, noise);
        if (!found) return std::nullopt;
        shape = *found;
      } else if (noise > c.limit_sigma * c.limit_sigma) {
        return std::nullopt;
      }
      choice.extension_log2.push_back(shape.extension_log2);
      choice.tables_log2.push_back(shape.tables_log2);
      choice.noise.push_back({noise});
    }
    return choice;
  };
}

// Results as the client decrypts them.
inline SecretBuffer<Torus> decrypt_results(const SecretKeys& secret,
                                           std::span<const EvaluationKeys> evaluation,
                                           const Plan& plan, const OutputPlan& output,
                                           const LweBatch& results) {
  if (!output.packed) return decrypt(secret, results);
  const EvaluationKeys& keys = evaluation[*packing_key_set(plan.key_sets)];
  return decrypt(secret, pack_results(keys, results, output.wire_bits));
}

// Encrypts, runs and decrypts with the plan's encodings.
inline Integers run_under(const SecretKeys& secret, std::span<const EvaluationKeys> evaluation,
                          const Circuit& circuit, const Plan& plan, const Integers& inputs,
                          SecretGenerator& random) {
  std::vector<LweBatch> encrypted;
  const std::vector<const Node*> nodes = input_nodes(circuit);
  Integers clear(nodes.size());
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    const Input& input = std::get<Input>(nodes[i]->op);
    if (input.is_clear) {
      clear[i] = inputs[i];
      encrypted.emplace_back();
      continue;
    }
    const TensorPlan& tensor = plan.tensors[input.result];
    std::vector<Torus> phases;
    for (std::int64_t value : inputs[i].data)
      phases.push_back(encode(value, tensor.scale, tensor.center));
    encrypted.push_back(expand(encrypt(secret, phases, random)));
  }
  const std::vector<LweBatch> results =
      run_encrypted(circuit, plan, evaluation, encrypted, {}, {}, {}, clear);
  Integers outputs;
  for (const auto& [node, output] : plan.outputs) {
    const ValueId operand = std::get<Output>(circuit.nodes[node].op).operand;
    Tensor<std::int64_t> tensor{{inputs[0].shape[0]}, {}};
    const Shape& sample = circuit.values[operand].shape;
    tensor.shape.insert(tensor.shape.end(), sample.begin(), sample.end());
    const LweBatch& encrypted_results = results[outputs.size()];
    for (Torus phase : decrypt_results(secret, evaluation, plan, output, encrypted_results)) {
      tensor.data.push_back(decode(phase, plan.tensors[operand].scale, plan.tensors[operand].center,
                                   circuit.values[operand].interval));
    }
    outputs.push_back(std::move(tensor));
  }
  return outputs;
}

struct Keys {
  SecretKeys secret;
  std::vector<EvaluationKeys> evaluation;  // by key set

  static Keys make(const std::vector<TfheParameters>& key_sets, SecretGenerator& random) {
    Keys keys{SecretKeys::generate(key_sets[0], random), {}};
    for (const TfheParameters& p : key_sets) {
      keys.evaluation.push_back(
          EvaluationKeys::prepare(make_evaluation_keys(keys.secret, p, random)));
    }
    return keys;
  }
};

inline Circuit identity_table(std::int64_t lower, std::int64_t upper, std::int64_t elements) {
  Circuit circuit;
  circuit.name = "identity";
  circuit.values = {{{elements}, {lower, upper}}, {{elements}, {lower, upper}}};
  Table table{"id", {lower, upper}, 1, {}, {}};
  for (std::int64_t v = lower; v <= upper; ++v) table.entries.push_back(v);
  circuit.nodes = {{"x", Input{0}}, {"id", Lut{0, {table}, {1}}}, {"y", Output{1}}};
  return circuit;
}

}  // namespace torusml
