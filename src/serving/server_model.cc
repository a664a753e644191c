#include "serving/server_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "base/threads.h"
#include "plan/client_spec.h"
#include "runtime/executors.h"
#include "runtime/memory.h"
#include "serving/checkpointed_run.h"
#include "tfhe/result_packing.h"
#include "torusml/error.h"

namespace torusml {
namespace {

void check_tensor(const EncryptedInput& input, const TensorName& spec, LweDimension dimension) {
  const Shape& shape = input.shape;
  const bool matches = input.name == spec.name && shape.size() == spec.shape.size() + 1 &&
                       std::equal(spec.shape.begin(), spec.shape.end(), shape.begin() + 1) &&
                       number_of_elements(shape) == static_cast<std::int64_t>(input.elements());
  if (!matches) {
    throw Error(
        ErrorCode::wrong_shape,
        fmt::format(
            "encrypted input '{}' of shape {} was given, '{}' with a batch of {} is expected",
            input.name, to_string(shape), spec.name, to_string(spec.shape)));
  }
  if (input.clear.has_value() != spec.is_clear) {
    throw Error(ErrorCode::invalid_argument,
                fmt::format("input '{}' was given {}, the model takes it {}", input.name,
                            input.clear ? "in the clear" : "encrypted",
                            spec.is_clear ? "in the clear" : "encrypted"),
                "", "inputs made with this model's client half");
  }
  if (input.ciphertexts.dimension != dimension) {
    throw Error(ErrorCode::wrong_key,
                fmt::format("ciphertexts have dimension {}, the model's key has {}",
                            input.ciphertexts.dimension.value, dimension.value));
  }
}

ValueId value_of_input(const Circuit& circuit, std::size_t input) {
  return std::get<Input>(input_nodes(circuit)[input]->op).result;
}

void check_integers(const ServerSpec& spec, std::size_t index, const EncryptedInput& input) {
  if (!input.clear) return;
  const Interval interval = spec.circuit.values[value_of_input(spec.circuit, index)].interval;
  for (const std::int64_t value : *input.clear) {
    if (interval.contains(value)) continue;
    throw Error(ErrorCode::invalid_argument,
                fmt::format("{} lies outside the interval [{}, {}] of clear input '{}'", value,
                            interval.lower, interval.upper, input.name),
                "", "inputs made with this model's client half");
  }
}

// Of a clear input: ciphertexts whose masks are 0, without noise.
LweBatch to_ciphertexts(const ServerSpec& spec, std::size_t index, const EncryptedInput& input) {
  if (!input.clear) return expand(input.ciphertexts);
  const TensorPlan& tensor = spec.plan.tensors[value_of_input(spec.circuit, index)];
  LweBatch batch(input.ciphertexts.dimension, input.clear->size());
  for (std::size_t i = 0; i < batch.count; ++i)
    batch.row(i).back() = encode((*input.clear)[i], tensor.scale, tensor.center);
  return batch;
}

// Of all requests, one after the other.
LweBatch expand_input(const ServerSpec& spec, const std::vector<const EncryptedInputs*>& requests,
                      std::size_t tensor) {
  if (requests.size() == 1) return to_ciphertexts(spec, tensor, requests[0]->tensors[tensor]);
  std::size_t count = 0;
  for (const EncryptedInputs* request : requests) count += request->tensors[tensor].elements();
  LweBatch all(requests[0]->tensors[tensor].ciphertexts.dimension, count);
  Torus* end = all.words.data();
  for (const EncryptedInputs* request : requests)
    end = std::ranges::copy(to_ciphertexts(spec, tensor, request->tensors[tensor]).words, end).out;
  return all;
}

LweBatch rows(LweBatch& batch, std::size_t first, std::size_t count) {
  if (count == batch.count) return std::move(batch);
  LweBatch part(batch.dimension, count);
  const std::size_t width = batch.dimension.value + std::size_t{1};
  std::copy_n(batch.words.data() + first * width, count * width, part.words.data());
  return part;
}

// Results of one request, which share no ciphertext with those of another.
EncryptedOutput make_output(const TensorName& spec, std::size_t samples, const OutputPlan& plan,
                            const EvaluationKeys* packing, LweBatch results) {
  EncryptedOutput output{spec.name, {static_cast<std::int64_t>(samples)}, plan.wire_bits, {}};
  output.shape.insert(output.shape.end(), spec.shape.begin(), spec.shape.end());
  if (plan.packed)
    output.packed = pack_results(*packing, results, plan.wire_bits);
  else
    output.ciphertexts = std::move(results);
  return output;
}

// Results by output, of all requests one after the other.
std::vector<EncryptedOutputs> cut_into_requests(const ServerSpec& spec, const ServerKeys& keys,
                                                const std::vector<const EncryptedInputs*>& requests,
                                                const std::vector<std::size_t>& samples,
                                                std::vector<LweBatch>& results) {
  const auto set = packing_key_set(spec.plan.key_sets);
  const EvaluationKeys* packing = set ? keys.sets[*set].get() : nullptr;
  std::vector<EncryptedOutputs> outputs;
  std::size_t first = 0;
  for (std::size_t r = 0; r < requests.size(); first += samples[r++]) {
    outputs.push_back({requests[r]->provenance, {}});
    std::size_t o = 0;
    for (const auto& [node, plan] : spec.plan.outputs) {  // in the order of outputs
      const auto elements = static_cast<std::size_t>(number_of_elements(spec.outputs[o].shape));
      outputs[r].tensors.push_back(
          make_output(spec.outputs[o], samples[r], plan, packing,
                      rows(results[o], first * elements, samples[r] * elements)));
      ++o;
    }
  }
  return outputs;
}

}  // namespace

std::vector<TfheParameters> needed_key_sets(const ServerHalf& model) {
  return parameters_of(model.spec.plan.key_sets);
}

std::size_t check_inputs(const ServerHalf& model, const EncryptedInputs& inputs) {
  check_model(model.hash, inputs.provenance.model, "the encrypted input");
  const std::vector<TensorName>& specs = model.spec.inputs;
  if (inputs.tensors.size() != specs.size()) {
    throw Error(ErrorCode::wrong_shape,
                fmt::format("{} encrypted inputs were given, the model has {}",
                            inputs.tensors.size(), specs.size()));
  }
  for (std::size_t i = 0; i < specs.size(); ++i)
    check_tensor(inputs.tensors[i], specs[i], model.spec.plan.big_dimension());
  for (std::size_t i = 0; i < specs.size(); ++i) check_integers(model.spec, i, inputs.tensors[i]);
  const std::int64_t samples = specs.empty() ? 1 : inputs.tensors[0].shape[0];
  for (const EncryptedInput& tensor : inputs.tensors) {
    if (tensor.shape[0] != samples || samples == 0) {
      throw Error(ErrorCode::wrong_shape,
                  fmt::format("encrypted input '{}' has {} samples, the first one has {}",
                              tensor.name, tensor.shape[0], samples),
                  "", "one sample at least, and as many of each input");
    }
  }
  return static_cast<std::size_t>(samples);
}

std::vector<EncryptedOutputs> run_model(const ServerHalf& model, const ServerKeys& keys,
                                        const std::vector<const EncryptedInputs*>& requests,
                                        const ProgressCallback& progress, const Limits& limits,
                                        const Checkpoint& checkpoint) {
  if (keys.sets.empty())
    throw Error(ErrorCode::wrong_key, "no evaluation keys are loaded", "", "load_keys() first");
  const ServerSpec& spec = model.spec;
  std::vector<std::size_t> samples;
  std::size_t batch = 0;
  for (const EncryptedInputs* request : requests) {
    samples.push_back(check_inputs(model, *request));
    check_key(keys.key, request->provenance.key, "the encrypted input");
    batch += samples.back();
  }
  // Before inputs are expanded: they are most of what a large batch takes.
  choose_samples_at_once(spec.circuit, spec.plan, batch, limits);
  if (!checkpoint.file.empty() && requests.size() != 1) {
    throw Error(ErrorCode::not_supported,
                fmt::format("a checkpoint of {} requests", requests.size()), checkpoint.file,
                "one request at a time");
  }
  std::optional<CheckpointedRun> kept;
  if (!checkpoint.file.empty()) kept.emplace(checkpoint, model, *requests[0], batch);
  std::vector<const EvaluationKeys*> sets;
  for (const auto& set : keys.sets) sets.push_back(set.get());
  std::vector<LweBatch> inputs;
  for (std::size_t i = 0; i < spec.inputs.size(); ++i)
    inputs.push_back(expand_input(spec, requests, i));
  const std::span<const EvaluationKeys* const> all(sets);
  std::vector<LweBatch> results =
      kept ? run_encrypted(spec.circuit, spec.plan, all, inputs, kept->hooks(), progress, limits)
           : run_encrypted(spec.circuit, spec.plan, all, inputs, progress, limits);
  if (kept) kept->finish();
  std::vector<EncryptedOutputs> outputs;
  with_threads(limits.threads,
               [&] { outputs = cut_into_requests(spec, keys, requests, samples, results); });
  return outputs;
}

EncryptedOutputs ServerModel::run(const EncryptedInputs& inputs, const ProgressCallback& progress,
                                  const Limits& limits, const Checkpoint& checkpoint) const {
  return std::move(run_model(model_, keys_, {&inputs}, progress, limits, checkpoint)[0]);
}

}  // namespace torusml
