#include <fmt/format.h>

#include <chrono>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "artifact/codecs.h"
#include "base/threads.h"
#include "cli/commands.h"
#include "cli/human.h"
#include "cli/named_files.h"
#include "cli/npy.h"
#include "cli/passphrase.h"
#include "cli/progress_bar.h"
#include "cli/tensor_names.h"
#include "cli/warning.h"
#include "client/model_client.h"
#include "runtime/executors.h"
#include "serving/server_model.h"
#include "torusml/error.h"

namespace torusml {
namespace {

using Clock = std::chrono::steady_clock;
using Integers = std::vector<Tensor<std::int64_t>>;

struct KeyPair {
  SecretKeySet secret;
  EvaluationKeySet evaluation;
};

KeyPair get_keys(const PredictArguments& arguments, const ModelClient& client) {
  if (!arguments.secret.empty())
    return {load_secret_keys(arguments.secret, passphrase_source(arguments.passphrase, false)),
            load_evaluation_keys(arguments.evaluation)};
  ProgressBar bar("keys");
  SecretKeySet secret = client.make_secret_keys();
  EvaluationKeySet evaluation =
      client.make_evaluation_keys(secret, bar.callback(), arguments.threads);
  return {std::move(secret), std::move(evaluation)};
}

// Results, and the seconds that the executor took (keys apart).
struct Prediction {
  Integers integers;
  double seconds = 0;
  bool keys_are_mapped = false;
};

Prediction predict_encrypted(const PredictArguments& arguments, const StoredModel& stored,
                             const ModelClient& client, const Integers& inputs) {
  const Limits limits = parse_limits(arguments.threads, arguments.memory_limit);
  const KeyPair keys = get_keys(arguments, client);
  ServerModel server(server_half(stored));
  // Keys that are made for this call alone are not worth a file.
  server.load_keys(keys.evaluation, limits,
                   arguments.evaluation.empty() ? "" : arguments.prepared_keys);
  print_warning(server.key_warning());
  ProgressBar bar("lookups");
  const Clock::time_point start = Clock::now();
  const EncryptedOutputs results =
      server.run(client.encrypt(keys.secret, inputs), bar.callback(), limits);
  Prediction prediction{client.decrypt(keys.secret, results), 0, server.keys_are_mapped()};
  prediction.seconds = std::chrono::duration<double>(Clock::now() - start).count();
  return prediction;
}

Prediction predict(const PredictArguments& arguments, const StoredModel& stored,
                   const ModelClient& client, const Integers& inputs) {
  if (arguments.executor == "encrypted")
    return predict_encrypted(arguments, stored, client, inputs);
  const CompiledModel& model = stored.model;
  const Clock::time_point start = Clock::now();
  Prediction prediction;
  if (arguments.executor == "clear") {
    with_threads(arguments.threads,
                 [&] { prediction.integers = run_clear(model.circuit, inputs); });
  } else {
    ProgressBar bar("lookups");
    with_threads(arguments.threads, [&] {
      prediction.integers =
          run_simulated(model.circuit, model.plan, inputs, arguments.seed, bar.callback());
    });
  }
  prediction.seconds = std::chrono::duration<double>(Clock::now() - start).count();
  return prediction;
}

void check_executor(const PredictArguments& arguments) {
  const std::string& executor = arguments.executor;
  if (arguments.model.empty()) {
    throw Error(ErrorCode::invalid_argument, "there is no model", "",
                "a compiled model (.tml), or --url and --name of one at a server");
  }
  if (arguments.secret.empty() != arguments.evaluation.empty()) {
    throw Error(ErrorCode::invalid_argument, "a secret key and evaluation keys go together", "",
                "--secret FILE and --evaluation FILE, or none of them");
  }
  if (executor != "clear" && executor != "simulated" && executor != "encrypted") {
    throw Error(ErrorCode::unknown_option, fmt::format("there is no executor '{}'", executor),
                "--executor", "clear, simulated or encrypted");
  }
  if (executor != "encrypted" && !arguments.secret.empty()) {
    throw Error(ErrorCode::invalid_argument, fmt::format("the {} executor takes no keys", executor),
                "--secret");
  }
  if (executor != "encrypted" && !arguments.memory_limit.empty()) {
    throw Error(ErrorCode::invalid_argument,
                fmt::format("the {} executor takes no memory limit", executor), "--memory-limit");
  }
}

void print_summary(const PredictArguments& arguments, const QuantizedInputs& inputs,
                   const std::vector<std::string>& paths, const Prediction& prediction) {
  const std::int64_t samples = prediction.integers[0].shape[0];
  if (arguments.json) {
    nlohmann::json outputs = nlohmann::json::array();
    for (std::size_t o = 0; o < paths.size(); ++o)
      outputs.push_back({{"file", paths[o]}, {"shape", prediction.integers[o].shape}});
    nlohmann::json summary{{"executor", arguments.executor}, {"samples", samples},
                           {"seconds", prediction.seconds},  {"values", inputs.values},
                           {"clipped", inputs.clipped},      {"outputs", outputs}};
    if (arguments.executor == "encrypted") summary["keys_are_mapped"] = prediction.keys_are_mapped;
    fmt::print("{}\n", summary.dump(2));
    return;
  }
  fmt::print("{}: {} in {} ({} each); {} of {} clipped to the model's input range\n",
             arguments.executor, counted(samples, "sample"), human_seconds(prediction.seconds),
             human_seconds(prediction.seconds / static_cast<double>(samples)), inputs.clipped,
             counted(inputs.values, "input value"));
  for (std::size_t o = 0; o < paths.size(); ++o)
    fmt::print("{}: shape {}\n", paths[o], to_string(prediction.integers[o].shape));
}

}  // namespace

void run_predict(const PredictArguments& arguments) {
  check_executor(arguments);
  const StoredModel stored = load_model(arguments.model);
  const ModelClient client(stored.model.client, stored.hash);
  const std::vector<std::string> paths =
      resolve_files(arguments.output, names_of(client.spec().outputs), "--output");
  const QuantizedInputs inputs = client.quantize(
      read_named_arrays(arguments.input, names_of(client.spec().inputs), "--input"));
  const Prediction prediction = predict(arguments, stored, client, inputs.integers);
  const std::vector<Tensor<double>> floats = client.dequantize(prediction.integers);
  for (std::size_t o = 0; o < paths.size(); ++o) write_npy(paths[o], floats[o]);
  print_summary(arguments, inputs, paths, prediction);
}

}  // namespace torusml
