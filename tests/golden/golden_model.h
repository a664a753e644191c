// What the golden files hold, made from fixed seeds: a network of two lookups, one ordinary and one
// wide, under two small key sets; and, from version 6 on, one with a second input that travels in
// the clear, and one whose results are packed, under a key of its own. They are far below any
// security level, which only a test may be.
#pragma once

#include <fmt/format.h>

#include <filesystem>
#include <string>
#include <vector>

#include "artifact/codecs.h"
#include "circuit/text.h"
#include "parameters/optimizer.h"
#include "parameters/wide_lookups.h"
#include "random/test_seed.h"
#include "tfhe/secret_keys.h"
#include "torusml/error.h"

namespace torusml::golden {

inline constexpr const char* kPassphrase = "correct horse battery staple";
inline const std::vector<std::int64_t> kInputs{-3, 4, 0, 0, 4, 4, -1, 2};  // four samples of two
inline const std::vector<std::int64_t> kClearInputs{1, -1, 0, 1};          // four samples of one

inline std::vector<TfheParameters> key_sets() {
  const TfheParameters wide{.small_dimension = {10},
                            .glwe_dimension = {1},
                            .polynomial_size = {128},
                            .bootstrap = {10, 4},
                            .keyswitch = {4, 7},
                            .grouping_factor = 2,
                            .small_variance = {0x1p-60},
                            .glwe_variance = {0x1p-100},
                            .circuit_bootstrap = {6, 3},
                            .trace = {8, 5}};
  const TfheParameters plain{.small_dimension = {12},
                             .glwe_dimension = {2},
                             .polynomial_size = {64},
                             .bootstrap = {13, 3},
                             .keyswitch = {5, 5},
                             .small_variance = {0x1p-56},
                             .glwe_variance = {0x1p-100}};
  return {wide, plain};
}

// As `pack_outputs` "on" makes it: a trace without circuit bootstrapping.
inline TfheParameters set_that_packs() {
  return {.small_dimension = {10},
          .glwe_dimension = {1},
          .polynomial_size = {64},
          .bootstrap = {13, 3},
          .keyswitch = {4, 7},
          .small_variance = {0x1p-60},
          .glwe_variance = {0x1p-100},
          .trace = {8, 5}};
}

// Of 67 samples, so that 134 results fill two ciphertexts and lie apart in a third: every pair of
// integers of the input, and three of them again.
inline std::vector<std::int64_t> many_inputs() {
  std::vector<std::int64_t> inputs;
  for (std::int64_t i = 0; i < 67; ++i) {
    inputs.push_back(i % 8 - 3);
    inputs.push_back(i / 8 % 8 - 3);
  }
  return inputs;
}

inline std::string entries(std::int64_t lower, std::int64_t upper,
                           std::int64_t (*function)(std::int64_t)) {
  std::string text;
  for (std::int64_t v = lower; v <= upper; ++v)
    text += (text.empty() ? "" : ", ") + std::to_string(function(v));
  return text;
}

// `sum` is the first layer's map of the inputs, `next` the number of its result.
inline Circuit network(const char* name, const char* inputs, const char* sum, int next,
                       const char* constants) {
  const auto relu = [](std::int64_t v) { return v > 0 ? v / 2 : 0; };
  const auto absolute = [](std::int64_t v) { return v < 0 ? -v / 2 : v / 2; };
  const auto remainder = [](std::int64_t v) { return (v + 25) % 5 - 2; };
  return parse_circuit(fmt::format(R"(circuit "{}"
{}  %{} = linear {} + @b : tensor<3> [-12, 12] "fc1"
  %{} = lut %{} tables=[@t per-element] : tensor<3> [-12, 12] -> [0, 6] "relu1"
  %{} = linear dense(%{}, @v) : tensor<2> [-24, 66] "fc2"
  %{} = lut %{} tables=[@r per-tensor] : tensor<2> [-24, 66] -> [-2, 2] "remainder"
  output "y" %{}
constants
  @w = dense 3x2 [1, 2, -1, 1, 2, -1]
{}  @b = vector [0, 1, -1]
  @t = table 2 rows [{}, {}] of [0, 1, 0]
  @v = dense 2x3 [3, 4, 4, 4, -4, 5]
  @r = table 1 rows [{}]
)",
                                   name, inputs, next, sum, next + 1, next, next + 2, next + 1,
                                   next + 3, next + 2, next + 3, constants, entries(-12, 12, relu),
                                   entries(-12, 12, absolute), entries(-24, 66, remainder)));
}

inline Circuit circuit(const char* name = "golden") {
  return network(name, "  %0 = input \"x\" : tensor<2> [-3, 4]\n", "dense(%0, @w)", 1, "");
}

inline Circuit circuit_with_clear_input() {
  return network("clear",
                 "  %0 = input \"x\" : tensor<2> [-3, 4]\n"
                 "  %1 = input \"z\" clear : tensor<1> [-1, 1]\n",
                 "dense(%0, @w) + dense(%1, @u)", 2, "  @u = dense 3x1 [0, 2, 1]\n");
}

// The lookup of seven bits is a wide one under the first key set, the other has the second.
inline std::optional<ParameterChoice> choose(const ParameterRequest& request, std::string*) {
  std::vector<std::size_t> set_of;
  for (const NoiseConstraint& c : request.constraints)
    set_of.push_back(c.is_lookup && set_of.empty() ? 1 : 0);
  std::optional<ParameterChoice> choice = apply_key_sets(key_sets(), set_of, request);
  if (!choice) return choice;
  choice->wide.assign(request.constraints.size(), {});
  bool has_wide = false;
  for (std::size_t i = 0; i < request.constraints.size(); ++i) {
    if (request.constraints[i].index_bits == 0 || set_of[i] != 0) continue;
    choice->wide[i] = wide_shapes(request.constraints[i]).front();
    has_wide = true;
  }
  if (!has_wide) choice->cost_ms_per_core += 100;  // plans with wide lookups are asked for apart
  return choice;
}

inline std::optional<ParameterChoice> choose_packing(const ParameterRequest& request,
                                                     std::string*) {
  return apply_key_sets({set_that_packs()}, std::vector<std::size_t>(request.constraints.size()),
                        request);
}

inline CompiledModel model_of(Circuit circuit, PackOutputs pack, const ParameterSearch& search) {
  CompiledModel model;
  model.circuit = std::move(circuit);
  model.plan = make_plan(model.circuit, {.max_exact_bits = 16, .pack_outputs = pack}, search);
  const Plan& plan = model.plan;
  ClientSpec& client = model.client;
  client.model_name = model.circuit.name;
  client.key_sets = parameters_of(plan.key_sets);
  client.options = plan.options;
  const UniformQuantizer quantizer({.n_bits = 3, .is_signed = true}, {{0.125}, {0}, 3});
  client.inputs = {{"x", {2}, quantizer, {-3, 4}, plan.tensors[0].scale, plan.tensors[0].center}};
  client.outputs = {{"y",
                     {2},
                     {0.1, 1.0 / 3},
                     {0.25, -1},
                     {-2, 2},
                     plan.tensors.back().scale,
                     plan.tensors.back().center}};
  model.ranges = {{"fc1", {-9, 12}, {-10, 12}, {-12, 12}, 5, true},
                  {"fc2", {0, 60}, {-24, 66}, {-24, 66}, 7, true}};
  return model;
}

inline CompiledModel model() { return model_of(circuit(), PackOutputs::off, choose); }

inline CompiledModel model_with_clear_input() {
  CompiledModel model = model_of(circuit_with_clear_input(), PackOutputs::off, choose);
  const TensorPlan& z = model.plan.tensors[1];
  const UniformQuantizer quantizer({.n_bits = 2, .is_signed = true}, {{0.5}, {0}, 2});
  model.client.inputs.push_back({"z", {1}, quantizer, {-1, 1}, z.scale, z.center, true});
  return model;
}

inline CompiledModel model_with_packed_results() {
  return model_of(circuit("packed"), PackOutputs::on, choose_packing);
}

// first: byte of the key's id.
inline Provenance provenance(const CompiledModel& model, std::uint8_t first = 0) {
  Provenance provenance{.model = hash_of(model), .p_error = model.plan.options.p_error};
  for (std::size_t i = 0; i < provenance.key.bytes.size(); ++i)
    provenance.key.bytes[i] = static_cast<std::uint8_t>(16 * i + i);
  provenance.key.bytes[0] = first;
  return provenance;
}

inline SecretKeySet secret_keys_of(const CompiledModel& model, std::uint8_t id,
                                   std::uint64_t seed) {
  SecretGenerator random = TestSeed::make(seed);
  const std::vector<TfheParameters>& sets = model.client.key_sets;
  return {provenance(model, id), sets, SecretKeys::generate(sets.front(), random)};
}

inline SecretKeySet secret_keys() { return secret_keys_of(model(), 0, 1); }
inline SecretKeySet secret_keys_that_pack() {
  return secret_keys_of(model_with_packed_results(), 0xff, 4);
}

inline EvaluationKeySet evaluation_keys(const SecretKeySet& secret, std::uint64_t seed) {
  SecretGenerator random = TestSeed::make(seed);
  EvaluationKeySet made{secret.provenance, {}};
  for (const TfheParameters& p : secret.key_sets)
    made.keys.push_back(make_evaluation_keys(secret.keys, p, random));
  return made;
}

// Of the first input.
inline EncryptedInputs encrypted_inputs(const SecretKeySet& secret, const CompiledModel& model,
                                        const std::vector<std::int64_t>& values,
                                        std::uint64_t seed) {
  SecretGenerator random = TestSeed::make(seed);
  const InputSpec& x = model.client.inputs[0];
  std::vector<Torus> phases;
  for (const std::int64_t value : values) phases.push_back(encode(value, x.torus_scale, x.center));
  EncryptedInputs inputs{secret.provenance, {}};
  inputs.provenance.model = hash_of(model);
  const auto samples = static_cast<std::int64_t>(values.size() / 2);
  inputs.tensors.push_back({"x", {samples, 2}, encrypt(secret.keys, phases, random)});
  return inputs;
}

inline EncryptedInputs inputs_with_a_clear_one(const SecretKeySet& secret,
                                               const CompiledModel& model) {
  EncryptedInputs inputs = encrypted_inputs(secret, model, kInputs, 3);
  EncryptedInput& z = inputs.tensors.emplace_back(EncryptedInput{"z", {4, 1}, {}});
  z.ciphertexts.dimension = model.client.big_dimension();
  z.clear = kClearInputs;
  return inputs;
}

}  // namespace torusml::golden
