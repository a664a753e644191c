// Writes the golden files: make_golden FOLDER. For a new version of the format only; files of a
// version that was published are never made again (docs/formats.md).
#include <fmt/format.h>

#include <cstdio>

#include "golden_model.h"
#include "serving/server_model.h"
#include "tfhe/kernels.h"

namespace torusml::golden {
namespace {

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
  const EvaluationKeySet evaluation = evaluation_keys(secret);
  save_evaluation_keys(evaluation, folder + "/evaluation.key");
  const EncryptedInputs inputs = encrypted_inputs(secret, compiled.client);
  save_encrypted_inputs(inputs, folder + "/inputs.ct");
  ServerModel server(server_half(stored));
  server.load_keys(evaluation);
  save_encrypted_outputs(server.run(inputs), folder + "/outputs.ct");

  const CompiledModel with_clear = model_with_clear_input();
  save_model(with_clear, folder + "/clear.tml");
  const EncryptedInputs mixed = inputs_with_a_clear_one(secret, with_clear);
  save_encrypted_inputs(mixed, folder + "/clear_inputs.ct");
  ServerModel other(server_half(model_from_bytes(to_bytes(with_clear))));
  other.load_keys(evaluation);
  save_encrypted_outputs(other.run(mixed), folder + "/clear_outputs.ct");
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
