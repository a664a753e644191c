#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>

#include "artifact/codecs.h"
#include "cli/commands.h"
#include "cli/human.h"
#include "cli/interruption.h"
#include "cli/named_files.h"
#include "cli/npy.h"
#include "cli/passphrase.h"
#include "cli/progress_bar.h"
#include "cli/tensor_names.h"
#include "cli/warning.h"
#include "client/key_generation.h"
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

ModelClient load_client(const std::string& path) { return ModelClient(load_client_half(path)); }

SecretKeySet load_keys(const std::string& path, const std::string& passphrase) {
  return load_secret_keys(path, passphrase_source(passphrase, /*is_new=*/false));
}

// By sample, for people.
std::string bytes_each(const std::string& path, std::int64_t samples) {
  const std::uint64_t bytes = std::filesystem::file_size(path);
  return human_bytes(bytes / static_cast<std::uint64_t>(std::max<std::int64_t>(samples, 1)));
}

}  // namespace

void run_export(const ExportArguments& arguments) {
  if (arguments.client.empty() && arguments.server.empty()) {
    throw Error(ErrorCode::invalid_argument, "there is nothing to write", "",
                "--client FILE, --server FILE or both");
  }
  const StoredModel model = load_model(arguments.model);
  if (!arguments.client.empty()) {
    save_client_half(client_half(model), arguments.client);
    fmt::print("{}: client's half of model {}, {}\n", arguments.client, short_hex(model.hash),
               size_of(arguments.client));
  }
  if (!arguments.server.empty()) {
    save_server_half(server_half(model), arguments.server);
    fmt::print("{}: server's half of model {}, {}\n", arguments.server, short_hex(model.hash),
               size_of(arguments.server));
  }
}

void run_keygen(const KeygenArguments& arguments) {
  std::vector<ClientHalf> models;
  for (const std::string& path : arguments.models) models.push_back(load_client_half(path));
  // Said before the work; the file itself is never replaced without --force either.
  if (!arguments.force && std::filesystem::exists(arguments.secret)) {
    throw Error(ErrorCode::file_unwritable, "a secret key would be replaced",
                fmt::format("file '{}'", arguments.secret),
                "another name, or --force if nothing is encrypted under the old key");
  }
  const SecretKeySet secret = make_secret_keys(models);
  const PassphraseSource source = passphrase_source(arguments.passphrase, /*is_new=*/true);
  const Passphrase passphrase = source ? source() : Passphrase();
  if (source && passphrase.size() == 0)
    throw Error(ErrorCode::invalid_argument, "the passphrase is empty", "--passphrase");
  const Clock::time_point start = Clock::now();
  ProgressBar bar("keys");
  const EvaluationKeySet evaluation =
      make_evaluation_keys(secret, secret.key_sets, bar.callback(), arguments.threads);
  const double seconds = seconds_since(start);
  save_key_pair(secret, arguments.secret, arguments.force, evaluation, arguments.evaluation,
                passphrase);
  fmt::print("key {} in {}: {} ({}, {}keep it secret), {} ({}, for the server)\n",
             short_hex(secret.provenance.key), human_seconds(seconds), arguments.secret,
             size_of(arguments.secret), source ? "sealed, " : "", arguments.evaluation,
             size_of(arguments.evaluation));
}

void run_encrypt(const EncryptArguments& arguments) {
  const ModelClient client = load_client(arguments.model);
  const SecretKeySet keys = load_keys(arguments.secret, arguments.passphrase);
  const QuantizedInputs inputs = client.quantize(
      read_named_arrays(arguments.input, names_of(client.spec().inputs), "--input"));
  save_encrypted_inputs(client.encrypt(keys, inputs.integers), arguments.output);
  for (const InputSpec& input : client.spec().inputs) {
    if (input.is_clear)
      fmt::print("input '{}' is not encrypted: it travels in the clear\n", input.name);
  }
  const std::int64_t samples = inputs.integers[0].shape[0];
  fmt::print("{}: {}, {} ({} each); {} of {} clipped to the model's input range\n",
             arguments.output, counted(samples, "sample"), size_of(arguments.output),
             bytes_each(arguments.output, samples), inputs.clipped,
             counted(inputs.values, "value"));
}

void run_run(const RunArguments& arguments) {
  const Limits limits = parse_limits(arguments.threads, arguments.memory_limit);
  ServerModel server(load_server_half(arguments.model));
  const EncryptedInputs inputs = load_encrypted_inputs(arguments.input);
  const Clock::time_point start = Clock::now();
  server.load_keys(load_evaluation_keys(arguments.evaluation, {.needed = server.needed_key_sets()}),
                   limits, arguments.prepared_keys);
  print_warning(server.key_warning());
  const double key_seconds = seconds_since(start);
  ProgressBar bar("lookups");
  const Clock::time_point run_start = Clock::now();
  const Interruption interruption(arguments.checkpoint);
  const EncryptedOutputs outputs =
      server.run(inputs, interruption.callback(bar.callback()), limits,
                 {arguments.checkpoint, arguments.checkpoint_seconds, false});
  const double seconds = seconds_since(run_start);
  save_encrypted_outputs(outputs, arguments.output);
  std::error_code ignored;
  if (!arguments.checkpoint.empty()) std::filesystem::remove(arguments.checkpoint, ignored);
  const std::int64_t samples = outputs.tensors.empty() ? 0 : outputs.tensors[0].shape[0];
  fmt::print("{}: {} in {} ({} each), keys {} in {}, {} ({} each)\n", arguments.output,
             counted(samples, "sample"), human_seconds(seconds),
             human_seconds(seconds / static_cast<double>(std::max<std::int64_t>(samples, 1))),
             server.keys_are_mapped() ? "mapped" : "loaded", human_seconds(key_seconds),
             size_of(arguments.output), bytes_each(arguments.output, samples));
}

void run_decrypt(const DecryptArguments& arguments) {
  const ModelClient client = load_client(arguments.model);
  const std::vector<std::string> paths =
      resolve_files(arguments.output, names_of(client.spec().outputs), "--output");
  const SecretKeySet keys = load_keys(arguments.secret, arguments.passphrase);
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
