// The client's half of a model: keys, encryption and decryption, without the network that it is of.
//
//   torusml::Client client = torusml::Client::load("net.tmc");
//   client.generate_keys();
//   auto y = client.decrypt(answer_to(client.encrypt({x})));
//
// In libtorusml and in libtorusml_client, which has no compiler, no ONNX and no server; there
// Client(const Model&) is missing. Thread rule: const use is concurrent. Errors: torusml::Error.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "torusml/export.h"
#include "torusml/progress.h"
#include "torusml/tensor.h"

namespace torusml {

class Model;

// Holds the secret key. It never leaves the client but through save_secret_key (a file of mode
// 0600, sealed by scrypt and AES-GCM if there is a passphrase).
class TORUSML_EXPORT Client {
 public:
  explicit Client(const Model& model);
  static Client load(const std::string& path);  // of a client's half or of a whole model
  ~Client();
  Client(Client&&) noexcept;
  Client& operator=(Client&&) noexcept;

  // `also`: files of other models, or of clients' halves, that the keys are to serve. Error
  // wrong_key says which models need different keys.
  void generate_keys(const ProgressCallback& progress = {}, int threads = 0,
                     const std::vector<std::string>& also = {});
  void save_secret_key(const std::string& path, std::string_view passphrase = {}) const;
  // Afterwards evaluation_keys() is not available. Errors: key_exposed, when others may read the
  // file; wrong_passphrase.
  void load_secret_key(const std::string& path, std::string_view passphrase = {});

  std::string evaluation_keys() const;  // bytes for the server
  std::string encrypt(const std::vector<Tensor<double>>& inputs) const;
  std::vector<Tensor<double>> decrypt(std::string_view results) const;

 private:
  struct State;
  explicit Client(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace torusml
