#include "serving/server_model.h"

#include <fmt/format.h>

#include <algorithm>

#include "runtime/executors.h"
#include "torusml/error.h"

namespace torusml {
namespace {

std::vector<LweBatch> expand_inputs(const CompiledModel& model, const EncryptedInputs& inputs) {
  const std::vector<InputSpec>& specs = model.client.inputs;
  if (inputs.tensors.size() != specs.size()) {
    throw Error(ErrorCode::wrong_shape,
                fmt::format("{} encrypted inputs were given, the model has {}",
                            inputs.tensors.size(), specs.size()));
  }
  std::vector<LweBatch> batches;
  for (std::size_t i = 0; i < specs.size(); ++i) {
    const EncryptedInput& input = inputs.tensors[i];
    const Shape& shape = input.shape;
    const bool matches =
        input.name == specs[i].name && shape.size() == specs[i].shape.size() + 1 &&
        std::equal(specs[i].shape.begin(), specs[i].shape.end(), shape.begin() + 1) &&
        number_of_elements(shape) == static_cast<std::int64_t>(input.ciphertexts.bodies.size());
    if (!matches) {
      throw Error(
          ErrorCode::wrong_shape,
          fmt::format(
              "encrypted input '{}' of shape {} was given, '{}' with a batch of {} is expected",
              input.name, to_string(shape), specs[i].name, to_string(specs[i].shape)));
    }
    if (input.ciphertexts.dimension != model.plan.parameters.big_dimension()) {
      throw Error(ErrorCode::wrong_key,
                  fmt::format("ciphertexts have dimension {}, the model's key has {}",
                              input.ciphertexts.dimension.value,
                              model.plan.parameters.big_dimension().value));
    }
    batches.push_back(expand(input.ciphertexts));
  }
  return batches;
}

}  // namespace

void ServerModel::load_keys(const EvaluationKeySet& keys) {
  if (!(keys.keys.parameters == model_.model.plan.parameters)) {
    throw Error(ErrorCode::wrong_key, "the evaluation keys have other parameters than the model",
                "", "keys made by `torusml keygen` for this model");
  }
  keys_.emplace(EvaluationKeys::prepare(keys.keys));
  provenance_ = keys.provenance;
}

EncryptedOutputs ServerModel::run(const EncryptedInputs& inputs,
                                  const ProgressCallback& progress) const {
  if (!keys_)
    throw Error(ErrorCode::wrong_key, "no evaluation keys are loaded", "", "load_keys() first");
  check_model(model_.hash, inputs.provenance.model, "the encrypted input");
  check_key(provenance_.key, inputs.provenance.key, "the encrypted input");
  std::vector<LweBatch> results = run_encrypted(model_.model.circuit, model_.model.plan, *keys_,
                                                expand_inputs(model_.model, inputs), progress);
  EncryptedOutputs outputs{inputs.provenance, {}};
  const std::int64_t batch = inputs.tensors.empty() ? 1 : inputs.tensors[0].shape[0];
  for (std::size_t o = 0; o < results.size(); ++o) {
    const OutputSpec& spec = model_.model.client.outputs[o];
    Shape shape{batch};
    shape.insert(shape.end(), spec.shape.begin(), spec.shape.end());
    outputs.tensors.push_back({spec.name, std::move(shape), std::move(results[o])});
  }
  return outputs;
}

}  // namespace torusml
