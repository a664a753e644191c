#include "serving/server_model.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/threads.h"
#include "runtime/executors.h"
#include "runtime/memory.h"
#include "torusml/error.h"

namespace torusml {
namespace {

void check_input(const EncryptedInput& input, const TensorName& spec, LweDimension dimension) {
  const Shape& shape = input.shape;
  const bool matches =
      input.name == spec.name && shape.size() == spec.shape.size() + 1 &&
      std::equal(spec.shape.begin(), spec.shape.end(), shape.begin() + 1) &&
      number_of_elements(shape) == static_cast<std::int64_t>(input.ciphertexts.bodies.size());
  if (!matches) {
    throw Error(
        ErrorCode::wrong_shape,
        fmt::format(
            "encrypted input '{}' of shape {} was given, '{}' with a batch of {} is expected",
            input.name, to_string(shape), spec.name, to_string(spec.shape)));
  }
  if (input.ciphertexts.dimension != dimension) {
    throw Error(ErrorCode::wrong_key,
                fmt::format("ciphertexts have dimension {}, the model's key has {}",
                            input.ciphertexts.dimension.value, dimension.value));
  }
}

void check_inputs(const ServerSpec& model, const EncryptedInputs& inputs) {
  const std::vector<TensorName>& specs = model.inputs;
  if (inputs.tensors.size() != specs.size()) {
    throw Error(ErrorCode::wrong_shape,
                fmt::format("{} encrypted inputs were given, the model has {}",
                            inputs.tensors.size(), specs.size()));
  }
  for (std::size_t i = 0; i < specs.size(); ++i)
    check_input(inputs.tensors[i], specs[i], model.plan.big_dimension());
}

std::vector<LweBatch> expand_inputs(const EncryptedInputs& inputs) {
  std::vector<LweBatch> batches;
  for (const EncryptedInput& input : inputs.tensors) batches.push_back(expand(input.ciphertexts));
  return batches;
}

// By output: nodes are in the order of outputs.
std::vector<int> wire_bits_of(const Plan& plan) {
  std::vector<int> bits;
  for (const auto& [node, output] : plan.outputs) bits.push_back(output.wire_bits);
  return bits;
}

}  // namespace

void ServerModel::load_keys(const EvaluationKeySet& keys, const Limits& limits,
                            const std::string& prepared_keys) {
  const std::vector<TfheParameters> needed = needed_key_sets();
  check_key_sets(needed, parameters_of(keys.keys), "the evaluation keys");
  check_key_memory(needed, key_bytes(), limits);
  std::vector<EvaluationKeys> loaded;
  bool are_mapped = true;
  std::string warning;
  with_threads(limits.threads, [&] {
    for (const TfheParameters& p : needed) {
      LoadedKeys set = load_prepared_keys(
          *std::ranges::find(keys.keys, p, &SeededEvaluationKeys::parameters), prepared_keys);
      loaded.push_back(std::move(set.keys));
      are_mapped = are_mapped && set.is_mapped;
      if (warning.empty()) warning = set.warning;
    }
  });
  keys_ = std::move(loaded);
  keys_are_mapped_ = are_mapped;
  key_warning_ = std::move(warning);
  provenance_ = keys.provenance;
}

std::vector<TfheParameters> ServerModel::needed_key_sets() const {
  return parameters_of(model_.spec.plan.key_sets);
}

std::size_t ServerModel::key_bytes() const {
  std::size_t bytes = 0;
  for (const EvaluationKeys& keys : keys_) bytes += keys.bytes();
  return bytes;
}

EncryptedOutputs ServerModel::run(const EncryptedInputs& inputs, const ProgressCallback& progress,
                                  const Limits& limits) const {
  if (!has_keys())
    throw Error(ErrorCode::wrong_key, "no evaluation keys are loaded", "", "load_keys() first");
  check_model(model_.hash, inputs.provenance.model, "the encrypted input");
  check_key(provenance_.key, inputs.provenance.key, "the encrypted input");
  const ServerSpec& model = model_.spec;
  check_inputs(model, inputs);
  const std::int64_t batch = inputs.tensors.empty() ? 1 : inputs.tensors[0].shape[0];
  // Before inputs are expanded: they are most of what a large batch takes.
  choose_samples_at_once(model.circuit, model.plan, static_cast<std::size_t>(batch), limits);
  std::vector<LweBatch> results =
      run_encrypted(model.circuit, model.plan, keys_, expand_inputs(inputs), progress, limits);
  EncryptedOutputs outputs{inputs.provenance, {}};
  const std::vector<int> wire_bits = wire_bits_of(model.plan);
  for (std::size_t o = 0; o < results.size(); ++o) {
    const TensorName& spec = model.outputs[o];
    Shape shape{batch};
    shape.insert(shape.end(), spec.shape.begin(), spec.shape.end());
    outputs.tensors.push_back({spec.name, std::move(shape), wire_bits[o], std::move(results[o])});
  }
  return outputs;
}

}  // namespace torusml
