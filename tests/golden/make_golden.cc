// Writes the golden files: make_golden FOLDER. For a new version of the format only; files of a
// version that was published are never made again (docs/formats.md).
#include <fmt/format.h>

#include <cstdio>

#include "golden_model.h"
#include "serving/server_model.h"
#include "tfhe/kernels.h"

namespace torusml::golden {
namespace {

// What the model's server makes of the inputs.
EncryptedOutputs outputs_of(const CompiledModel& model, const EvaluationKeySet& keys,
                            const EncryptedInputs& inputs) {
  ServerModel server(server_half(model_from_bytes(to_bytes(model))));
  server.load_keys(keys);
  return server.run(inputs);
}

void make_packed(const std::string& folder) {
  const CompiledModel model = model_with_packed_results();
  save_model(model, folder + "/packed.tml");
  const SecretKeySet secret = secret_keys_that_pack();
  save_secret_keys(secret, folder + "/packed_secret.key", true);
  const EvaluationKeySet evaluation = evaluation_keys(secret, 5);
  save_evaluation_keys(evaluation, folder + "/packed_evaluation.key");
  const EncryptedInputs inputs = encrypted_inputs(secret, model, many_inputs(), 6);
  save_encrypted_inputs(inputs, folder + "/packed_inputs.ct");
  save_encrypted_outputs(outputs_of(model, evaluation, inputs), folder + "/packed_outputs.ct");
}

void make(const std::string& folder) {
  // Of all machines that run the tests.
  set_target("AVX2");
  const CompiledModel compiled = model();
  const StoredModel stored = model_from_bytes(to_bytes(compiled));
  save_model(compiled, folder + "/model.tml");
  save_client_half(client_half(stored), folder + "/client.tmc");
  save_server_half(server_half(stored), folder + "/server.tms");
  const SecretKeySet secret = secret_keys();
  save_secret_keys(secret, folder + "/secret.key", true);
  save_secret_keys(secret, folder + "/sealed.key", true, passphrase_of(kPassphrase));
  const EvaluationKeySet evaluation = evaluation_keys(secret, 2);
  save_evaluation_keys(evaluation, folder + "/evaluation.key");
  const EncryptedInputs inputs = encrypted_inputs(secret, compiled, kInputs, 3);
  save_encrypted_inputs(inputs, folder + "/inputs.ct");
  save_encrypted_outputs(outputs_of(compiled, evaluation, inputs), folder + "/outputs.ct");

  const CompiledModel with_clear = model_with_clear_input();
  save_model(with_clear, folder + "/clear.tml");
  const EncryptedInputs mixed = inputs_with_a_clear_one(secret, with_clear);
  save_encrypted_inputs(mixed, folder + "/clear_inputs.ct");
  save_encrypted_outputs(outputs_of(with_clear, evaluation, mixed), folder + "/clear_outputs.ct");

  make_packed(folder);
}

}  // namespace
}  // namespace torusml::golden

int main(int count, char** arguments) {
  try {
    if (count != 2)
      throw torusml::Error(torusml::ErrorCode::invalid_argument, "a folder is needed");
    torusml::golden::make(arguments[1]);
  } catch (const torusml::Error& error) {
    fmt::print(stderr, "{}\n", error.what());
    return 1;
  }
}
