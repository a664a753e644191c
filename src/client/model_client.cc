#include "client/model_client.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/declassify.h"
#include "client/key_generation.h"
#include "random/generator.h"
#include "torusml/error.h"

namespace torusml {
namespace {

std::string quoted(const std::string& name) { return fmt::format("'{}'", name); }

void check_count(std::size_t given, std::size_t expected, const char* what) {
  if (given == expected) return;
  throw Error(ErrorCode::wrong_shape,
              fmt::format("{} {} were given, the model has {}", given, what, expected));
}

// (batch, shape of one sample), with samples in it.
bool is_batch_of(const Shape& shape, const Shape& sample) {
  return shape.size() == sample.size() + 1 && shape[0] > 0 &&
         std::equal(sample.begin(), sample.end(), shape.begin() + 1);
}

void check_shape(const Shape& shape, std::size_t elements, const Shape& sample,
                 const std::string& name) {
  if (is_batch_of(shape, sample) &&
      elements == static_cast<std::size_t>(number_of_elements(shape))) {
    return;
  }
  throw Error(ErrorCode::wrong_shape,
              fmt::format("shape {} was given, a batch of {} is expected", to_string(shape),
                          to_string(sample)),
              quoted(name));
}

void check_same_batch(std::int64_t& batch, const Shape& shape, const std::string& name) {
  if (batch != 0 && shape[0] != batch) {
    throw Error(ErrorCode::wrong_shape,
                fmt::format("{} samples were given, other inputs have {}", shape[0], batch),
                quoted(name));
  }
  batch = shape[0];
}

// Error for the first integer outside the interval, by its place and, if all may see it, its value;
// without a branch on them unless there is one.
void check_interval(const InputSpec& spec, std::span<const std::int64_t> integers) {
  const auto is_outside = [&](std::int64_t value) {
    return (value < spec.interval.lower) | (value > spec.interval.upper);
  };
  bool any_outside = false;
  for (const std::int64_t value : integers) any_outside |= is_outside(value);
  if (!declassified(any_outside)) return;
  const auto found = std::ranges::find_if(integers, is_outside);
  const std::int64_t place = found - integers.begin(), elements = number_of_elements(spec.shape);
  throw Error(ErrorCode::invalid_argument,
              fmt::format("element {} of sample {} {} outside the input's interval [{}, {}]",
                          place % elements, place / elements,
                          spec.is_clear ? fmt::format("is {},", *found) : "lies",
                          spec.interval.lower, spec.interval.upper),
              quoted(spec.name),
              "quantize the input with the model's quantizer; an index must be a row of its table");
}

SecretBuffer<Torus> encode_all(const InputSpec& spec, const Tensor<std::int64_t>& integers) {
  SecretBuffer<Torus> phases(integers.data.size());
  for (std::size_t i = 0; i < phases.size(); ++i)
    phases[i] = encode(integers.data[i], spec.torus_scale, spec.center);
  return phases;
}

SecretBuffer<Torus> decrypt_output(const SecretKeys& keys, const EncryptedOutput& tensor) {
  return tensor.packed ? decrypt(keys, *tensor.packed) : decrypt(keys, tensor.ciphertexts);
}

}  // namespace

ModelClient::ModelClient(ClientHalf half) : ModelClient(std::move(half.spec), half.hash) {}

ModelClient::ModelClient(ClientSpec spec, ModelHash model)
    : spec_(std::move(spec)), model_(model) {}

Provenance ModelClient::provenance(const KeyId& key) const {
  return {.model = model_,
          .key = key,
          .profile = spec_.options.profile,
          .p_error = spec_.options.p_error,
          .security_bits = spec_.options.security_bits};
}

SecretKeySet ModelClient::make_secret_keys() const {
  return torusml::make_secret_keys(std::vector<ClientHalf>{{spec_, model_, ""}});
}

EvaluationKeySet ModelClient::make_evaluation_keys(const SecretKeySet& keys,
                                                   const ProgressCallback& progress,
                                                   int threads) const {
  check_keys(keys);
  return torusml::make_evaluation_keys(keys, spec_.key_sets, progress, threads);
}

QuantizedInputs ModelClient::quantize(const std::vector<Tensor<double>>& values) const {
  check_count(values.size(), spec_.inputs.size(), "inputs");
  QuantizedInputs result;
  std::int64_t batch = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    const InputSpec& input = spec_.inputs[i];
    result.integers.push_back(quantize_input(input, values[i]));
    check_same_batch(batch, values[i].shape, input.name);
    result.values += static_cast<std::int64_t>(values[i].data.size());
    result.clipped += input.quantizer.count_clipped(values[i].data);
  }
  return result;
}

EncryptedInputs ModelClient::encrypt(const SecretKeySet& keys,
                                     const std::vector<Tensor<std::int64_t>>& integers) const {
  check_keys(keys);
  check_count(integers.size(), spec_.inputs.size(), "inputs");
  SecretGenerator random;
  EncryptedInputs result{provenance(keys.provenance.key), {}};
  std::int64_t batch = 0;
  for (std::size_t i = 0; i < integers.size(); ++i) {
    const InputSpec& input = spec_.inputs[i];
    check_shape(integers[i].shape, integers[i].data.size(), input.shape, input.name);
    check_same_batch(batch, integers[i].shape, input.name);
    check_interval(input, integers[i].data);
    EncryptedInput& tensor =
        result.tensors.emplace_back(EncryptedInput{input.name, integers[i].shape, {}});
    if (input.is_clear) {
      tensor.ciphertexts.dimension = spec_.big_dimension();
      tensor.clear = integers[i].data;
    } else {
      tensor.ciphertexts = torusml::encrypt(keys.keys, encode_all(input, integers[i]), random);
    }
  }
  return result;
}

std::vector<Tensor<std::int64_t>> ModelClient::decrypt(const SecretKeySet& keys,
                                                       const EncryptedOutputs& results) const {
  check_keys(keys);
  check_model(model_, results.provenance.model, "the ciphertext");
  check_key(keys.provenance.key, results.provenance.key, "the ciphertext");
  check_count(results.tensors.size(), spec_.outputs.size(), "outputs");
  Wiped integers{std::vector<Tensor<std::int64_t>>()};  // if a later output is refused
  for (std::size_t o = 0; o < results.tensors.size(); ++o) {
    const OutputSpec& output = spec_.outputs[o];
    const EncryptedOutput& tensor = results.tensors[o];
    check_shape(tensor.shape, tensor.elements(), output.shape, output.name);
    Tensor<std::int64_t>& decoded =
        integers.value.emplace_back(Tensor<std::int64_t>{tensor.shape, {}});
    decoded.data.reserve(tensor.elements());
    for (const Torus phase : decrypt_output(keys.keys, tensor))
      decoded.data.push_back(decode(phase, output.torus_scale, output.center, output.interval));
  }
  return std::move(integers.value);
}

std::vector<Tensor<double>> ModelClient::dequantize(
    const std::vector<Tensor<std::int64_t>>& integers) const {
  check_count(integers.size(), spec_.outputs.size(), "outputs");
  Wiped values{std::vector<Tensor<double>>()};
  for (std::size_t o = 0; o < integers.size(); ++o)
    values.value.push_back(dequantize_output(spec_.outputs[o], integers[o]));
  return std::move(values.value);
}

void ModelClient::check_keys(const SecretKeySet& keys) const {
  check_key_sets(spec_.key_sets, keys.key_sets,
                 fmt::format("key {}, made for model {}: its evaluation keys",
                             short_hex(keys.provenance.key), short_hex(keys.provenance.model)));
}

}  // namespace torusml
