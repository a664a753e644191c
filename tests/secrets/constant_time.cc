// What valgrind runs for constant_time_test: the client's work, with everything secret marked as
// undefined memory, so that memcheck reports each branch and each address that depends on it.
//
//   valgrind --error-exitcode=99 constant_time client
//
// Secret are the random bytes of the operating system (so keys, noise and public seeds until they
// are handed out) and the plaintexts. Public become finished keys and ciphertexts, the key's id,
// results when the client has them, and what base/declassify.h names. The other cases leak on
// purpose: valgrind must fail. Exit codes: 0 nothing found, 1 wrong results, 2 wrong call, 3 the
// instruction set of TORUSML_TARGET is not there under valgrind.
#include <fmt/format.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <valgrind/memcheck.h>

#include <cmath>
#include <cstdio>
#include <functional>
#include <map>
#include <string>

#include "artifact/sample_model.h"
#include "base/declassify.h"
#include "base/threads.h"
#include "client/model_client.h"
#include "tfhe/kernels.h"
#include "tfhe/result_packing.h"
#include "torusml/error.h"

// Takes the place of the C library's in this program, OpenSSL included.
extern "C" ssize_t getrandom(void* bytes, size_t size, unsigned flags) {
  const ssize_t got = syscall(SYS_getrandom, bytes, size, flags);
  if (got > 0) VALGRIND_MAKE_MEM_UNDEFINED(bytes, static_cast<std::size_t>(got));
  return got;
}

namespace torusml {
namespace {

void declassify(const void* pointer, std::size_t bytes) {
  VALGRIND_MAKE_MEM_DEFINED(pointer, bytes);
}
template <class Container>
void declassify_all(const Container& values) {
  declassify(values.data(), values.size() * sizeof(*values.data()));
}
template <class Container>
void make_secret(Container& values) {
  VALGRIND_MAKE_MEM_UNDEFINED(values.data(), values.size() * sizeof(*values.data()));
}

void require(bool holds, const char* what) {
  if (holds) return;
  fmt::print(stderr, "constant_time: {}\n", what);
  std::exit(1);
}

// The test means nothing if memcheck lost track: every bit of the key must be undefined.
void require_tracked(const SecretKeySet& keys) {
  std::uint64_t unknown = 0;
  for (const std::uint64_t& word : keys.keys.big) {
    VALGRIND_GET_VBITS(&word, &unknown, sizeof word);
    require((unknown & 1) != 0, "a key bit is not known to be secret");
  }
}

// Its outputs are its inputs, so that ciphertexts come back without a server.
ClientSpec echo_spec(const TfheParameters& parameters) {
  ClientSpec spec = sample_model().client;
  spec.key_sets = {parameters};
  const InputSpec& input = spec.inputs[0];
  spec.outputs = {{"y", input.shape, {0.5}, {1}, input.interval, 1.0 / 162, input.center}};
  return spec;
}

EncryptedOutputs echo(const EncryptedInputs& inputs) {
  EncryptedOutputs outputs{inputs.provenance, {}};
  for (const EncryptedInput& tensor : inputs.tensors)
    outputs.tensors.push_back({"y", tensor.shape, 64, expand(tensor.ciphertexts)});
  return outputs;
}

// As a server packs them.
EncryptedOutputs packed_echo(const EncryptedInputs& inputs, const SeededEvaluationKeys& keys) {
  EncryptedOutputs outputs = echo(inputs);
  with_threads(1, [&] {
    const EvaluationKeys prepared = EvaluationKeys::prepare(keys);
    for (EncryptedOutput& tensor : outputs.tensors) {
      tensor.packed = pack_results(prepared, tensor.ciphertexts, tensor.wire_bits);
      tensor.ciphertexts = LweBatch();
    }
  });
  return outputs;
}

SecretKeySet make_keys(const ModelClient& client) {
  SecretKeySet keys = client.make_secret_keys();
  require_tracked(keys);
  declassify_all(keys.provenance.key.bytes);
  return keys;
}

EvaluationKeySet make_evaluation_keys(const ModelClient& client, const SecretKeySet& keys) {
  EvaluationKeySet evaluation = client.make_evaluation_keys(keys, {}, /*threads=*/1);
  for (const SeededEvaluationKeys& set : evaluation.keys) {
    declassify_all(set.seed);
    declassify_all(set.bootstrap_bodies);
    declassify_all(set.keyswitch_bodies);
    declassify_all(set.trace_bodies);
  }
  require(evaluation.keys.size() == client.spec().key_sets.size(), "keys are missing");
  return evaluation;
}

EncryptedInputs encrypt(const ModelClient& client, const SecretKeySet& keys,
                        std::vector<double> values) {
  make_secret(values);
  const auto samples = static_cast<std::int64_t>(values.size() / 2);
  const QuantizedInputs quantized = client.quantize({{{samples, 2}, values}});
  const EncryptedInputs inputs = client.encrypt(keys, quantized.integers);
  for (const EncryptedInput& tensor : inputs.tensors) {
    declassify_all(tensor.ciphertexts.seed);
    declassify_all(tensor.ciphertexts.bodies);
  }
  return inputs;
}

std::vector<double> decrypt(const ModelClient& client, const SecretKeySet& keys,
                            const EncryptedOutputs& outputs) {
  const std::vector<Tensor<double>> floats = client.dequantize(client.decrypt(keys, outputs));
  declassify_all(floats[0].data);
  return floats[0].data;
}

TfheParameters one_bit_a_step() { return sample_parameters(); }

TfheParameters two_bits_a_step() {
  TfheParameters p = sample_parameters();
  p.glwe_dimension = {2};
  p.grouping_factor = 2;
  p.accumulator_bits = 32;
  p.bootstrap = {10, 2};
  return p;
}

TfheParameters with_trace() {
  TfheParameters p = sample_parameters();
  p.circuit_bootstrap = {6, 3};
  p.trace = {8, 5};
  return p;
}

void run_client(const TfheParameters& parameters) {
  ModelHash hash;
  const ModelClient client(echo_spec(parameters), hash);
  const SecretKeySet keys = make_keys(client);
  const EvaluationKeySet evaluation = make_evaluation_keys(client, keys);
  // The quantizer's step is 0.1 and its integers are -3 .. 4: both ends, beyond them, and halves.
  const std::vector<double> values{-0.3, -9, 0.4, 9, 0.04, -0.05, 0, 0.25};
  const std::vector<double> expected{-2, -2, 1.5, 1.5, -0.5, -0.5, -0.5, 0.5};
  const EncryptedInputs inputs = encrypt(client, keys, values);
  require(decrypt(client, keys, echo(inputs)) == expected, "wrong results");
  if (!parameters.has_trace()) return;
  const EncryptedOutputs packed = packed_echo(inputs, evaluation.keys[0]);
  require(decrypt(client, keys, packed) == expected, "wrong packed results");
}

void run_all() {
  run_client(one_bit_a_step());
  run_client(two_bits_a_step());
  run_client(with_trace());
}

// What the check must find.
void branch_on(bool bit) {
  if (bit) asm volatile("nop");
}

void branch_on_a_key_bit() {
  const ModelClient client(echo_spec(one_bit_a_step()), ModelHash{});
  const SecretKeySet keys = make_keys(client);
  branch_on(keys.keys.big[17] != 0);
}

void address_from_a_plaintext() {
  std::vector<double> values{0.2, 0.3};
  make_secret(values);
  const ModelClient client(echo_spec(one_bit_a_step()), ModelHash{});
  const QuantizedInputs quantized = client.quantize({{{1, 2}, values}});
  static const volatile int table[8] = {1, 2, 3, 4, 5, 6, 7, 8};
  volatile int entry = table[quantized.integers[0].data[0] + 3];
  static_cast<void>(entry);
}

// As encode did it once.
void rounding_of_a_plaintext() {
  const ModelClient client(echo_spec(one_bit_a_step()), ModelHash{});
  std::vector<double> values{0.2, 0.3};
  make_secret(values);
  volatile Torus word = encode_units(static_cast<long double>(values[0]), 1.0 / 162);
  static_cast<void>(word);
}

void branch_on_a_result() {
  const ModelClient client(echo_spec(one_bit_a_step()), ModelHash{});
  const SecretKeySet keys = make_keys(client);
  const EncryptedOutputs outputs = echo(encrypt(client, keys, {0.1, 0.2}));
  branch_on(client.decrypt(keys, outputs)[0].data[1] > 0);
}

void branch_on_a_packed_result() {
  const ModelClient client(echo_spec(with_trace()), ModelHash{});
  const SecretKeySet keys = make_keys(client);
  const EvaluationKeySet evaluation = make_evaluation_keys(client, keys);
  const EncryptedInputs inputs = encrypt(client, keys, {0.1, 0.2});
  branch_on(client.decrypt(keys, packed_echo(inputs, evaluation.keys[0]))[0].data[1] > 0);
}

const std::map<std::string, std::function<void()>> kCases{
    {"client", run_all},
    {"leak-branch-on-a-key-bit", branch_on_a_key_bit},
    {"leak-address-from-a-plaintext", address_from_a_plaintext},
    {"leak-rounding-of-a-plaintext", rounding_of_a_plaintext},
    {"leak-branch-on-a-result", branch_on_a_result},
    {"leak-branch-on-a-packed-result", branch_on_a_packed_result}};

int run(const std::string& name) {
  const auto found = kCases.find(name);
  if (found == kCases.end() || RUNNING_ON_VALGRIND == 0) {
    fmt::print(stderr, "valgrind --error-exitcode=99 constant_time CASE\n");
    return 2;
  }
  try {
    fmt::print("instruction set: {}\n", current_kernels().target);
  } catch (const Error& error) {
    fmt::print(stderr, "{}\n", error.what());
    return 3;
  }
  set_declassify_hook(declassify);
  found->second();
  return 0;
}

}  // namespace
}  // namespace torusml

int main(int count, char** arguments) { return torusml::run(count == 2 ? arguments[1] : ""); }
