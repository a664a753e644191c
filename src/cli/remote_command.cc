#include <fmt/format.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "cli/hidden_text.h"
#include "cli/human.h"
#include "cli/named_files.h"
#include "cli/npy.h"
#include "cli/passphrase.h"
#include "cli/progress_bar.h"
#include "cli/tensor_names.h"
#include "remote/remote_model.h"
#include "torusml/error.h"

namespace torusml {
namespace {

using Clock = std::chrono::steady_clock;

constexpr const char* kTokenVariable = "TORUSML_TOKEN";

std::string token_of(const std::string& source) {
  if (source.empty() && std::getenv(kTokenVariable) == nullptr) return "";
  const HiddenTextKind kind{ErrorCode::invalid_argument, "--token",
                            "token of the server: ", "a token is asked for"};
  const SecretBuffer<std::uint8_t> text =
      hidden_text(kind, source.empty() ? fmt::format("env:{}", kTokenVariable) : source);
  return {reinterpret_cast<const char*>(text.data()), text.size()};
}

RemoteSettings settings_of(const ServerArguments& server) {
  return {.model = server.name,
          .version = server.version,
          .token = token_of(server.token),
          .ca_file = server.ca_file,
          .allow_plain_http = server.allow_plain_http,
          .clear_inputs = server.clear,
          .deadline_s = server.deadline_s};
}

void check(const PredictArguments& arguments) {
  if (arguments.server.name.empty())
    throw Error(ErrorCode::invalid_argument, "a server has models by name", "--name",
                "--name NAME");
  if (!arguments.memory_limit.empty())
    throw Error(ErrorCode::invalid_argument, "the server has limits of its own", "--memory-limit");
}

// Uploads them, too.
void get_keys(RemoteModel& model, const PredictArguments& arguments) {
  {
    ProgressBar bar("keys");
    if (arguments.secret.empty()) {
      model.generate_keys(bar.callback(), arguments.threads);
    } else {
      const bool is_new = !std::filesystem::exists(arguments.secret);
      model.open_keys(arguments.secret, passphrase_source(arguments.passphrase, is_new),
                      arguments.evaluation, bar.callback(), arguments.threads);
    }
  }
  ProgressBar bar("upload of evaluation keys");
  model.upload_keys(bar.callback());
}

// Keys that nobody has a file of serve nothing any more.
class KeysOfOneCall {
 public:
  KeysOfOneCall(const RemoteModel& model, bool forget) : model_(model), forget_(forget) {}
  ~KeysOfOneCall() {
    try {
      if (forget_ && model_.has_keys()) model_.delete_keys();
    } catch (const std::exception&) {  // the server deletes what is not used
    }
  }
  KeysOfOneCall(const KeysOfOneCall&) = delete;
  KeysOfOneCall& operator=(const KeysOfOneCall&) = delete;

 private:
  const RemoteModel& model_;
  bool forget_;
};

IntegerTensors predict(const RemoteModel& model, const QuantizedInputs& inputs, bool as_job) {
  ProgressBar bar(as_job ? "lookups" : "samples");
  return as_job ? model.predict(inputs.integers, bar.callback())
                : model.infer(inputs.integers, bar.callback());
}

void print_summary(const PredictArguments& arguments, const RemoteModel& model,
                   const QuantizedInputs& inputs, const std::vector<std::string>& paths,
                   const IntegerTensors& results, double seconds) {
  const std::int64_t samples = results[0].shape[0];
  const TransferCounts counts = model.transfer();
  if (arguments.json) {
    nlohmann::json outputs = nlohmann::json::array();
    for (std::size_t o = 0; o < paths.size(); ++o)
      outputs.push_back({{"file", paths[o]}, {"shape", results[o].shape}});
    const nlohmann::json summary{{"executor", "server"},
                                 {"samples", samples},
                                 {"seconds", seconds},
                                 {"values", inputs.values},
                                 {"clipped", inputs.clipped},
                                 {"sent_bytes", counts.sent_bytes},
                                 {"received_bytes", counts.received_bytes},
                                 {"key_bytes", counts.key_bytes},
                                 {"outputs", outputs}};
    fmt::print("{}\n", summary.dump(2));
    return;
  }
  fmt::print("server: {} in {} ({} each); {} of {} clipped to the model's input range\n",
             counted(samples, "sample"), human_seconds(seconds),
             human_seconds(seconds / static_cast<double>(samples)), inputs.clipped,
             counted(inputs.values, "input value"));
  fmt::print("sent {} of keys and {} of requests, received {}\n", human_bytes(counts.key_bytes),
             human_bytes(counts.sent_bytes - counts.key_bytes), human_bytes(counts.received_bytes));
  for (std::size_t o = 0; o < paths.size(); ++o)
    fmt::print("{}: shape {}\n", paths[o], to_string(results[o].shape));
}

}  // namespace

void run_remote_predict(const PredictArguments& arguments) {
  check(arguments);
  RemoteModel model(arguments.server.url, settings_of(arguments.server));
  const ModelClient& client = model.client();
  const std::vector<std::string> paths =
      resolve_files(arguments.output, names_of(client.spec().outputs), "--output");
  const QuantizedInputs inputs = client.quantize(
      read_named_arrays(arguments.input, names_of(client.spec().inputs), "--input"));
  const KeysOfOneCall keys(model, arguments.secret.empty());
  get_keys(model, arguments);
  const Clock::time_point start = Clock::now();
  const IntegerTensors results = predict(model, inputs, arguments.server.as_job);
  const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
  const std::vector<Tensor<double>> floats = client.dequantize(results);
  for (std::size_t o = 0; o < paths.size(); ++o) write_npy(paths[o], floats[o]);
  print_summary(arguments, model, inputs, paths, results, seconds);
}

}  // namespace torusml
