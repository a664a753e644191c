#include "serving/server_model.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/threads.h"
#include "runtime/executors.h"
#include "runtime/memory.h"
#include "torusml/error.h"

namespace torusml {
namespace {

void check_input(const EncryptedInput& input, const InputSpec& spec, LweDimension dimension) {
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

void check_inputs(const CompiledModel& model, const EncryptedInputs& inputs) {
  const std::vector<InputSpec>& specs = model.client.inputs;
  if (inputs.tensors.size() != specs.size()) {
    throw Error(ErrorCode::wrong_shape,
                fmt::format("{} encrypted inputs were given, the model has {}",
                            inputs.tensors.size(), specs.size()));
  }
  for (std::size_t i = 0; i < specs.size(); ++i)
    check_input(inputs.tensors[i], specs[i], model.plan.parameters.big_dimension());
}

std::vector<LweBatch> expand_inputs(const EncryptedInputs& inputs) {
  std::vector<LweBatch> batches;
  for (const EncryptedInput& input : inputs.tensors) batches.push_back(expand(input.ciphertexts));
  return batches;
}

}  // namespace

void ServerModel::load_keys(const EvaluationKeySet& keys, const Limits& limits,
                            const std::string& prepared_keys) {
  if (!(keys.keys.parameters == model_.model.plan.parameters)) {
    throw Error(ErrorCode::wrong_key, "the evaluation keys have other parameters than the model",
                "", "keys made by `torusml keygen` for this model");
  }
  check_key_memory(keys.keys.parameters, key_bytes(), limits);
  with_threads(limits.threads,
               [&] { keys_.emplace(load_prepared_keys(keys.keys, prepared_keys)); });
  provenance_ = keys.provenance;
}

EncryptedOutputs ServerModel::run(const EncryptedInputs& inputs, const ProgressCallback& progress,
                                  const Limits& limits) const {
  if (!keys_)
    throw Error(ErrorCode::wrong_key, "no evaluation keys are loaded", "", "load_keys() first");
  check_model(model_.hash, inputs.provenance.model, "the encrypted input");
  check_key(provenance_.key, inputs.provenance.key, "the encrypted input");
  const CompiledModel& model = model_.model;
  check_inputs(model, inputs);
  const std::int64_t batch = inputs.tensors.empty() ? 1 : inputs.tensors[0].shape[0];
  // Before inputs are expanded: they are most of what a large batch takes.
  choose_samples_at_once(model.circuit, model.plan, static_cast<std::size_t>(batch), limits);
  std::vector<LweBatch> results = run_encrypted(model.circuit, model.plan, keys_->keys,
                                                expand_inputs(inputs), progress, limits);
  EncryptedOutputs outputs{inputs.provenance, {}};
  for (std::size_t o = 0; o < results.size(); ++o) {
    const OutputSpec& spec = model.client.outputs[o];
    Shape shape{batch};
    shape.insert(shape.end(), spec.shape.begin(), spec.shape.end());
    outputs.tensors.push_back({spec.name, std::move(shape), std::move(results[o])});
  }
  return outputs;
}

}  // namespace torusml
