#include "torusml/client.h"

#include "artifact/codecs.h"
#include "client/key_generation.h"
#include "client/model_client.h"
#include "client_state.h"
#include "torusml/error.h"

namespace torusml {

Client::Client(std::unique_ptr<State> state) : state_(std::move(state)) {}
Client::~Client() = default;
Client::Client(Client&&) noexcept = default;
Client& Client::operator=(Client&&) noexcept = default;

Client Client::load(const std::string& path) {
  return Client(std::make_unique<State>(load_client_half(path)));
}

void Client::generate_keys(const ProgressCallback& progress, int threads,
                           const std::vector<std::string>& also) {
  std::vector<ClientHalf> models{state_->half};
  for (const std::string& path : also) models.push_back(load_client_half(path));
  SecretKeySet secret = make_secret_keys(models);
  state_->evaluation = make_evaluation_keys(secret, secret.key_sets, progress, threads);
  state_->secret.emplace(std::move(secret));
}

void Client::save_secret_key(const std::string& path, std::string_view passphrase) const {
  save_secret_keys(state_->keys(), path, /*replace=*/false, as_bytes(passphrase));
}

void Client::load_secret_key(const std::string& path, std::string_view passphrase) {
  PassphraseSource source;
  if (!passphrase.empty()) source = [passphrase] { return passphrase_of(passphrase); };
  state_->secret.emplace(load_secret_keys(path, source));
  state_->evaluation.reset();
}

std::string Client::evaluation_keys() const {
  if (!state_->evaluation) {
    throw Error(ErrorCode::wrong_key,
                "there are no evaluation keys: they are made with the secret key", "",
                "generate_keys()");
  }
  return to_bytes(*state_->evaluation);
}

std::string Client::encrypt(const std::vector<Tensor<double>>& inputs) const {
  const ModelClient& client = state_->client;
  return to_bytes(client.encrypt(state_->keys(), client.quantize(inputs).integers));
}

std::vector<Tensor<double>> Client::decrypt(std::string_view results) const {
  const ModelClient& client = state_->client;
  const Wiped integers{client.decrypt(state_->keys(), encrypted_outputs_from_bytes(results))};
  return client.dequantize(integers.value);
}

}  // namespace torusml
