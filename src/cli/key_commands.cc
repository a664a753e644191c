#include <fmt/format.h>

#include <chrono>
#include <cstdio>
#include <filesystem>

#include "artifact/codecs.h"
#include "cli/commands.h"
#include "cli/human.h"
#include "cli/named_files.h"
#include "cli/npy.h"
#include "cli/progress_bar.h"
#include "cli/tensor_names.h"
#include "cli/warning.h"
#include "client/model_client.h"
#include "serving/server_model.h"
#include "torusml/error.h"

namespace torusml {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

std::string size_of(const std::string& path) {
  return human_bytes(std::filesystem::file_size(path));
}

ModelClient load_client(const std::string& path) {
  StoredModel stored = load_model(path);
  return ModelClient(std::move(stored.model.client), stored.hash);
}

}  // namespace

void run_keygen(const KeygenArguments& arguments) {
  const ModelClient client = load_client(arguments.model);
  // Said before the work; the file itself is never replaced without --force either.
  if (!arguments.force && std::filesystem::exists(arguments.secret)) {
    throw Error(ErrorCode::file_unwritable, "a secret key would be replaced",
                fmt::format("file '{}'", arguments.secret),
                "another name, or --force if nothing is encrypted under the old key");
  }
  const Clock::time_point start = Clock::now();
  const SecretKeySet secret = client.make_secret_keys();
  ProgressBar bar("keys");
  const EvaluationKeySet evaluation =
      client.make_evaluation_keys(secret, bar.callback(), arguments.threads);
  const double seconds = seconds_since(start);
  save_key_pair(secret, arguments.secret, arguments.force, evaluation, arguments.evaluation);
  fmt::print("key {} in {}: {} ({}, keep it secret), {} ({}, for the server)\n",
             short_hex(secret.provenance.key), human_seconds(seconds), arguments.secret,
             size_of(arguments.secret), arguments.evaluation, size_of(arguments.evaluation));
}

void run_encrypt(const EncryptArguments& arguments) {
  const ModelClient client = load_client(arguments.model);
  const SecretKeySet keys = load_secret_keys(arguments.secret);
  const QuantizedInputs inputs = client.quantize(
      read_named_arrays(arguments.input, names_of(client.spec().inputs), "--input"));
  save_encrypted_inputs(client.encrypt(keys, inputs.integers), arguments.output);
  fmt::print("{}: {}, {}; {} of {} clipped to the model's input range\n", arguments.output,
             counted(inputs.integers[0].shape[0], "sample"), size_of(arguments.output),
             inputs.clipped, counted(inputs.values, "value"));
}

void run_run(const RunArguments& arguments) {
  const Limits limits = parse_limits(arguments.threads, arguments.memory_limit);
  ServerModel server(load_model(arguments.model));
  const EncryptedInputs inputs = load_encrypted_inputs(arguments.input);
  const Clock::time_point start = Clock::now();
  server.load_keys(load_evaluation_keys(arguments.evaluation), limits, arguments.prepared_keys);
  print_warning(server.key_warning());
  const double key_seconds = seconds_since(start);
  ProgressBar bar("lookups");
  const Clock::time_point run_start = Clock::now();
  const EncryptedOutputs outputs = server.run(inputs, bar.callback(), limits);
  const double seconds = seconds_since(run_start);
  save_encrypted_outputs(outputs, arguments.output);
  const std::int64_t samples = outputs.tensors.empty() ? 0 : outputs.tensors[0].shape[0];
  fmt::print("{}: {} in {} ({} each), keys {} in {}, {}\n", arguments.output,
             counted(samples, "sample"), human_seconds(seconds),
             human_seconds(seconds / static_cast<double>(std::max<std::int64_t>(samples, 1))),
             server.keys_are_mapped() ? "mapped" : "loaded", human_seconds(key_seconds),
             size_of(arguments.output));
}

void run_decrypt(const DecryptArguments& arguments) {
  const ModelClient client = load_client(arguments.model);
  const std::vector<std::string> paths =
      resolve_files(arguments.output, names_of(client.spec().outputs), "--output");
  const SecretKeySet keys = load_secret_keys(arguments.secret);
  const std::vector<Tensor<std::int64_t>> integers =
      client.decrypt(keys, load_encrypted_outputs(arguments.input));
  if (arguments.raw) {
    for (std::size_t o = 0; o < paths.size(); ++o) write_npy(paths[o], integers[o]);
  } else {
    const std::vector<Tensor<double>> floats = client.dequantize(integers);
    for (std::size_t o = 0; o < paths.size(); ++o) write_npy(paths[o], floats[o]);
  }
  for (std::size_t o = 0; o < paths.size(); ++o)
    fmt::print("{}: shape {}\n", paths[o], to_string(integers[o].shape));
}

}  // namespace torusml
