// A small compiled model made by hand, and made-up keys and ciphertexts. Tests only.
#pragma once

#include <cmath>

#include "artifact/keys_and_ciphertexts.h"
#include "circuit/text.h"
#include "plan/compiled_model.h"

namespace torusml {

inline TfheParameters sample_parameters() {
  return {.small_dimension = {10},
          .glwe_dimension = {1},
          .polynomial_size = {64},
          .bootstrap = {20, 2},
          .keyswitch = {4, 3},
          .small_variance = {std::exp2(-40.1)},
          .glwe_variance = {std::exp2(-101.3)}};
}

inline Circuit sample_circuit() {
  return parse_circuit(R"(circuit "sample"
  %0 = input "x \"1\"" : tensor<2> [-3, 4]
  %1 = linear dense(%0, @w) : tensor<3> [-40, 40] "fc1"
  %2 = lut %1 tables=[@t per-tensor] : tensor<3> [-40, 40] -> [0, 1] "relu1"
  output "y" %2
constants
  @w = dense 3x2 [1, 2, 3, 4, 5, -5]
  @t = table 1 rows [)" +
                       [] {
                         std::string entries;
                         for (int v = -40; v <= 40; ++v)
                           entries += (v == -40 ? "" : ", ") + std::to_string(v > 0);
                         return entries;
                       }() +
                       "]\n");
}

// `with_lookup` false: a linear model, whose keys have no bootstrap.
inline CompiledModel sample_model(bool with_lookup = true) {
  CompiledModel model;
  model.circuit = sample_circuit();
  TfheParameters parameters = sample_parameters();
  ValueId result = 2;
  if (!with_lookup) {
    result = 1;
    model.circuit.values.pop_back();
    model.circuit.nodes.erase(model.circuit.nodes.begin() + 2);
    std::get<Output>(model.circuit.nodes[2].op).operand = result;
    parameters = {
        .glwe_dimension = {1}, .polynomial_size = {64}, .glwe_variance = {std::exp2(-101.3)}};
  }
  Plan& plan = model.plan;
  plan.circuit_name = "sample";
  plan.options.p_error = std::exp2(-40);
  plan.key_sets = {make_key_set(parameters)};
  plan.tensors = {{1.0 / 162, 0.5, {1e-30}}, {1.0 / 162, 0, {3e-29}}, {0.25, 0.5, {1.1e-20}}};
  plan.tensors.resize(result + 1);
  if (with_lookup) plan.lookups[2] = {.guard = 0.5, .noise = {1e-10}, .flip_probability = 1e-13};
  plan.outputs[result + 1] = {.guard = 0.5, .noise = {1.1e-20}};
  plan.lookup_count = with_lookup ? 3 : 0;
  plan.cost_ms_per_core = 12.34;

  ClientSpec& client = model.client;
  client.model_name = "sample";
  client.key_sets = {parameters};
  client.options = plan.options;
  const UniformQuantizer quantizer({.n_bits = 3, .is_signed = true},
                                   {{0.1}, {0}, 3});  // integers in [-3, 4]
  client.inputs = {{"x \"1\"", {2}, quantizer, {-3, 4}, 1.0 / 162, 0.5}};
  client.outputs = {{"y",
                     {3},
                     {0.1, 0.2, 1.0 / 3},
                     {0, -1, 2},
                     model.circuit.values[result].interval,
                     plan.tensors[result].scale,
                     plan.tensors[result].center}};
  model.ranges = {{"fc1", {-30, 31}, {-44, 45}, {-40, 40}, 7, true}};
  return model;
}

// The sample model under a key set that the engine takes; far below any security level.
inline CompiledModel runnable_sample_model() {
  CompiledModel model = sample_model();
  TfheParameters parameters = model.plan.key_sets[0].parameters;
  parameters.polynomial_size = {256};
  parameters.bootstrap = {.base_log2 = 9, .level_count = 4};
  parameters.glwe_variance = {0x1p-110};
  model.plan.key_sets = {make_key_set(parameters)};
  model.client.key_sets = {parameters};
  return model;
}

inline Provenance sample_provenance() {
  Provenance provenance{.profile = Profile::shared_results, .p_error = std::exp2(-128)};
  provenance.model.bytes.fill(0xab);
  provenance.key.bytes.fill(0x12);
  return provenance;
}

inline SecretKeySet sample_secret_keys() {
  SecretKeySet set;
  set.provenance = sample_provenance();
  set.key_sets = {sample_parameters()};
  set.keys.parameters = sample_parameters();
  set.keys.big = SecretBuffer<std::uint64_t>(64);
  for (std::size_t i = 0; i < 64; ++i) set.keys.big[i] = i % 5 < 2;
  return set;
}

inline SeededEvaluationKeys sample_keys_of(const TfheParameters& p, std::uint8_t seed) {
  SeededEvaluationKeys keys;
  keys.parameters = p;
  keys.seed.fill(seed);
  const std::size_t size = p.polynomial_size.value, small = p.small_dimension.value;
  keys.bootstrap_bodies.resize(small * p.bootstrap.level_count * 2 * size * p.body_bytes());
  keys.keyswitch_bodies.resize((size - small) * p.keyswitch.level_count);
  keys.trace_bodies.resize((6 + 1) * p.trace.level_count * size * p.body_bytes());
  for (std::size_t i = 0; i < keys.bootstrap_bodies.size(); ++i)
    keys.bootstrap_bodies[i] = static_cast<std::uint8_t>(i * 0x9e3779b97f4a7c15 >> 32);
  for (std::size_t i = 0; i < keys.keyswitch_bodies.size(); ++i)
    keys.keyswitch_bodies[i] = static_cast<std::uint32_t>(i * 0x9e3779b9);
  for (std::size_t i = 0; i < keys.trace_bodies.size(); ++i)
    keys.trace_bodies[i] = static_cast<std::uint8_t>(i * 0xd1b54a32d192ed03 >> 32);
  return keys;
}

// `with_trace`: a key set with circuit bootstrapping.
inline EvaluationKeySet sample_evaluation_keys(bool with_trace = false) {
  TfheParameters p = sample_parameters();
  if (with_trace) {
    p.circuit_bootstrap = {6, 3};
    p.trace = {8, 5};
  }
  return {sample_provenance(), {sample_keys_of(p, 0x77)}};
}

// Another key set under the sample's big key.
inline TfheParameters sample_second_parameters() {
  TfheParameters p = sample_parameters();
  p.small_dimension = {12};
  p.bootstrap = {25, 1};
  return p;
}

inline EncryptedInputs sample_inputs() {
  EncryptedInput tensor{"x", {2, 2}, {{64}, {}, {1, 2, 3, ~Torus{0}}}};
  tensor.ciphertexts.seed.fill(0x33);
  return {sample_provenance(), {tensor, tensor}};
}

inline EncryptedOutputs sample_outputs() {
  EncryptedOutputs outputs{sample_provenance(), {}};
  outputs.tensors.push_back({"y", {2, 3}, 64, LweBatch({64}, 6)});
  AlignedBuffer<Torus>& words = outputs.tensors[0].ciphertexts.words;
  for (std::size_t i = 0; i < words.size(); ++i) words[i] = i * 0x9e3779b97f4a7c15;
  return outputs;
}

}  // namespace torusml
