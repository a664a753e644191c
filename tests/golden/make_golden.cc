// Writes the golden files of this format version (docs/formats.md, "What lasts"), once:
//
//   build/release/make_golden tests/golden/v5
//
// A model by hand under a key set far below any security level, so that the files are small; keys
// and ciphertexts are fresh, so that another run gives other files. expected.json has what they
// hold.
#include <fmt/format.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "artifact/codecs.h"
#include "artifact/sample_model.h"
#include "client/model_client.h"
#include "serving/server_model.h"
#include "torusml/error.h"

namespace torusml {
namespace {

constexpr const char* kPassphrase = "golden";  // of the sealed key

CompiledModel make_model() {
  CompiledModel model = sample_model();
  TfheParameters parameters = model.plan.key_sets[0].parameters;
  parameters.polynomial_size = {256};
  parameters.bootstrap = {.base_log2 = 9, .level_count = 4};
  parameters.glwe_variance = {0x1p-110};
  model.plan.key_sets = {make_key_set(parameters)};
  model.plan.outputs.begin()->second.wire_bits = 20;
  model.client.key_sets = {parameters};
  return model;
}

void make(const std::string& folder) {
  std::filesystem::create_directories(folder);
  save_model(make_model(), folder + "/model.tml");
  const StoredModel model = load_model(folder + "/model.tml");
  save_client_half(client_half(model), folder + "/client.tmc");
  save_server_half(server_half(model), folder + "/server.tms");

  const ModelClient client(model.model.client, model.hash);
  const SecretKeySet secret = client.make_secret_keys();
  const EvaluationKeySet evaluation = client.make_evaluation_keys(secret, {}, 1);
  save_secret_keys(secret, folder + "/secret.key", true);
  const std::string passphrase = kPassphrase;
  save_secret_keys(secret, folder + "/sealed.key", true, as_bytes(passphrase));
  save_evaluation_keys(evaluation, folder + "/evaluation.key");
  // Made-up keys of wide lookups: their layout alone.
  save_evaluation_keys(sample_evaluation_keys(true), folder + "/evaluation_wide.key");

  const Tensor<std::int64_t> x{{4, 2}, {-3, 4, 0, 0, 2, -1, 4, 4}};
  const EncryptedInputs inputs = client.encrypt(secret, {x});
  save_encrypted_inputs(inputs, folder + "/inputs.ct");
  ServerModel server(server_half(model));
  server.load_keys(evaluation);
  const EncryptedOutputs outputs = server.run(inputs);
  save_encrypted_outputs(outputs, folder + "/outputs.ct");
  const std::vector<Tensor<std::int64_t>> y = client.decrypt(secret, outputs);

  nlohmann::ordered_json expected{{"model_hash", to_hex(model.hash)},
                                  {"key_id", to_hex(secret.provenance.key)},
                                  {"passphrase", kPassphrase},
                                  {"inputs", x.data},
                                  {"outputs", y[0].data},
                                  {"floats", client.dequantize(y)[0].data}};
  std::ofstream(folder + "/expected.json") << expected.dump(1) << "\n";
}

}  // namespace
}  // namespace torusml

int main(int count, char** arguments) {
  if (count != 2) {
    fmt::print(stderr, "usage: make_golden FOLDER\n");
    return 2;
  }
  try {
    torusml::make(arguments[1]);
    return 0;
  } catch (const torusml::Error& error) {
    fmt::print(stderr, "{}\n", error.what());
    return 1;
  }
}
