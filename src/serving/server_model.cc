#include "serving/server_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <span>

#include "base/threads.h"
#include "runtime/executors.h"
#include "runtime/memory.h"
#include "serving/checkpointed_run.h"
#include "tfhe/expand_rows.h"
#include "tfhe/result_packing.h"
#include "tfhe/wire_words.h"
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

// `count` samples of a request, from sample `first` on.
struct Part {
  const EncryptedInputs* request;
  std::size_t first, count;
};

ValueId value_of_input(const Circuit& circuit, std::size_t input) {
  return std::get<Input>(input_nodes(circuit)[input]->op).result;
}

std::size_t elements_of(const ServerSpec& spec, std::size_t input) {
  return static_cast<std::size_t>(number_of_elements(spec.inputs[input].shape));
}

void check_integers(const ServerSpec& spec, std::size_t index, const EncryptedInput& input) {
  if (!input.clear) return;
  const Interval interval = spec.circuit.values[value_of_input(spec.circuit, index)].interval;
  const std::size_t elements = elements_of(spec, index);
  for (std::size_t i = 0; i < input.clear->size(); ++i) {
    if (interval.contains((*input.clear)[i])) continue;
    throw Error(
        ErrorCode::invalid_argument,
        fmt::format("element {} of sample {} of clear input '{}' is {}, outside its interval "
                    "[{}, {}]",
                    i % elements, i / elements, input.name, (*input.clear)[i], interval.lower,
                    interval.upper),
        "", "inputs made with this model's client half");
  }
}

// Of all parts, one after the other; empty if the input is clear.
LweBatch expand_input(const ServerSpec& spec, const std::vector<Part>& parts, std::size_t index) {
  if (spec.inputs[index].is_clear) return {};
  const std::size_t elements = elements_of(spec, index);
  const auto expand_part = [&](const Part& part) {
    return expand_rows(part.request->tensors[index].ciphertexts, part.first * elements,
                       part.count * elements);
  };
  if (parts.size() == 1) return expand_part(parts[0]);
  std::size_t count = 0;
  for (const Part& part : parts) count += part.count * elements;
  LweBatch all(spec.plan.big_dimension(), count);
  Torus* end = all.words.data();
  for (const Part& part : parts) end = std::ranges::copy(expand_part(part).words, end).out;
  return all;
}

// The integers of a clear input, of all parts; empty if it is encrypted.
Tensor<std::int64_t> clear_input(const ServerSpec& spec, const std::vector<Part>& parts,
                                 std::size_t index) {
  if (!spec.inputs[index].is_clear) return {};
  const std::size_t elements = elements_of(spec, index);
  Tensor<std::int64_t> all{{0}, {}};
  for (const Part& part : parts) {
    const std::span<const std::int64_t> integers(*part.request->tensors[index].clear);
    const auto taken = integers.subspan(part.first * elements, part.count * elements);
    all.data.insert(all.data.end(), taken.begin(), taken.end());
    all.shape[0] += static_cast<std::int64_t>(part.count);
  }
  const Shape& sample = spec.circuit.values[value_of_input(spec.circuit, index)].shape;
  all.shape.insert(all.shape.end(), sample.begin(), sample.end());
  return all;
}

LweBatch rows(LweBatch& batch, std::size_t first, std::size_t count) {
  if (count == batch.count) return std::move(batch);
  LweBatch part(batch.dimension, count);
  const std::size_t width = batch.dimension.value + std::size_t{1};
  std::copy_n(batch.words.data() + first * width, count * width, part.words.data());
  return part;
}

// Samples of a request that fits model and keys.
std::size_t check_request(const ServerHalf& model, const ServerKeys& keys,
                          const EncryptedInputs& request) {
  if (keys.sets.empty())
    throw Error(ErrorCode::wrong_key, "no evaluation keys are loaded", "", "load_keys() first");
  const std::size_t samples = check_inputs(model, request);
  check_key(keys.key, request.provenance.key, "the encrypted input");
  return samples;
}

// Results of one part, which share no ciphertext with those of another. Packed if the plan says so
// and there is a key set for it.
EncryptedOutput make_output(const TensorName& spec, std::size_t samples, const OutputPlan& plan,
                            const EvaluationKeys* packing, LweBatch results) {
  EncryptedOutput output{spec.name, {static_cast<std::int64_t>(samples)}, plan.wire_bits, {}};
  output.shape.insert(output.shape.end(), spec.shape.begin(), spec.shape.end());
  if (plan.packed && packing != nullptr) {
    output.packed = pack_results(*packing, results, plan.wire_bits);
    return output;
  }
  if (plan.packed) {
    for (std::size_t i = 0; i < results.count; ++i) round_to_wire(results.row(i), plan.wire_bits);
  }
  output.ciphertexts = std::move(results);
  return output;
}

// Results by output, of all parts one after the other.
std::vector<EncryptedOutputs> cut_into_parts(const ServerSpec& spec, const std::vector<Part>& parts,
                                             const EvaluationKeys* packing,
                                             std::vector<LweBatch>& results) {
  std::vector<EncryptedOutputs> outputs;
  std::size_t first = 0;
  for (const Part& part : parts) {
    EncryptedOutputs& result = outputs.emplace_back(EncryptedOutputs{part.request->provenance, {}});
    std::size_t o = 0;
    for (const auto& [node, plan] : spec.plan.outputs) {  // in the order of outputs
      const auto elements = static_cast<std::size_t>(number_of_elements(spec.outputs[o].shape));
      result.tensors.push_back(
          make_output(spec.outputs[o], part.count, plan, packing,
                      rows(results[o], first * elements, part.count * elements)));
      ++o;
    }
    first += part.count;
  }
  return outputs;
}

// As one batch; results by part. They are packed with `packing`'s keys where the plan says so, and
// not at all where there are none.
std::vector<EncryptedOutputs> run_parts(const ServerHalf& model, const ServerKeys& keys,
                                        const std::vector<Part>& parts,
                                        const EvaluationKeys* packing,
                                        const ProgressCallback& progress, const Limits& limits,
                                        const Checkpoint& checkpoint) {
  const ServerSpec& spec = model.spec;
  std::size_t batch = 0;
  for (const Part& part : parts) batch += part.count;
  // Before inputs are expanded: they are most of what a large batch takes.
  choose_samples_at_once(spec.circuit, spec.plan, batch, limits);
  if (!checkpoint.file.empty() && parts.size() != 1) {
    throw Error(ErrorCode::not_supported, fmt::format("a checkpoint of {} requests", parts.size()),
                checkpoint.file, "one request at a time");
  }
  std::optional<CheckpointedRun> kept;
  if (!checkpoint.file.empty()) kept.emplace(checkpoint, model, *parts[0].request, batch);
  std::vector<const EvaluationKeys*> sets;
  for (const auto& set : keys.sets) sets.push_back(set.get());
  std::vector<LweBatch> inputs;
  std::vector<Tensor<std::int64_t>> clear;
  for (std::size_t i = 0; i < spec.inputs.size(); ++i) {
    inputs.push_back(expand_input(spec, parts, i));
    clear.push_back(clear_input(spec, parts, i));
  }
  const std::span<const EvaluationKeys* const> all(sets);
  std::vector<LweBatch> results =
      kept ? run_encrypted(spec.circuit, spec.plan, all, inputs, kept->hooks(), progress, limits,
                           clear)
           : run_encrypted(spec.circuit, spec.plan, all, inputs, progress, limits, {}, clear);
  std::vector<EncryptedOutputs> outputs;
  with_threads(limits.threads, [&] { outputs = cut_into_parts(spec, parts, packing, results); });
  if (kept) kept->finish();
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
  std::vector<Part> parts;
  for (const EncryptedInputs* request : requests)
    parts.push_back({request, 0, check_request(model, keys, *request)});
  const auto set = packing_key_set(model.spec.plan.key_sets);
  const EvaluationKeys* packing = set ? keys.sets[*set].get() : nullptr;
  return run_parts(model, keys, parts, packing, progress, limits, checkpoint);
}

EncryptedOutputs run_samples(const ServerHalf& model, const ServerKeys& keys,
                             const EncryptedInputs& request, const SampleRange& samples,
                             const ProgressCallback& progress, const Limits& limits) {
  const std::size_t all = check_request(model, keys, request);
  if (samples.count == 0 || samples.first > all || samples.count > all - samples.first) {
    throw Error(
        ErrorCode::wrong_shape,
        fmt::format("{} samples from sample {} on are asked for, the encrypted input has {}",
                    samples.count, samples.first, all),
        "", "one sample at least, of those that there are");
  }
  const Part part{&request, samples.first, samples.count};
  return std::move(run_parts(model, keys, {part}, nullptr, progress, limits, {})[0]);
}

EncryptedOutputs ServerModel::run(const EncryptedInputs& inputs, const ProgressCallback& progress,
                                  const Limits& limits, const Checkpoint& checkpoint) const {
  return std::move(run_model(model_, keys_, {&inputs}, progress, limits, checkpoint)[0]);
}

}  // namespace torusml
