// One model of a server, with the keys of one client: what include/torusml/remote.h, the command
// and the Python extension are made of.
//
//   RemoteModel model("https://fhe.example.org", settings);     // fetches the client's half
//   model.open_keys("client.key", passphrase, "", progress, 0);
//   auto integers = model.predict({q_x}, progress);             // of quantized inputs
//
// Thread rule: const use is concurrent; keys are made or opened before. Errors: those of remote.h.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "client/model_client.h"
#include "remote/evaluation_file.h"
#include "remote/server_api.h"
#include "torusml/progress.h"
#include "torusml/remote.h"
#include "torusml/tensor.h"

namespace torusml {

using IntegerTensors = std::vector<Tensor<std::int64_t>>;

// Error no_parameters unless every key set reaches the half's level of security, which is 128 bits
// at least: a half comes from the server, and keys of a weaker one could be broken there.
void check_security(const ClientHalf& half);
// Error invalid_argument unless all inputs that the half sends in the clear are among `allowed`.
void check_clear_inputs(const ClientHalf& half, const std::vector<std::string>& allowed);

class RemoteModel {
 public:
  RemoteModel(const std::string& url, const RemoteSettings& settings,
              const ProgressCallback& progress = {});

  const ModelClient& client() const { return client_; }
  const ClientHalf& half() const { return half_; }
  std::string metadata(const ProgressCallback& progress = {}) const;

  // As of RemoteClient. A passphrase is asked for only where a file is sealed, or made.
  void generate_keys(const ProgressCallback& progress, int threads);
  void open_keys(const std::string& path, const PassphraseSource& passphrase,
                 const std::string& evaluation, const ProgressCallback& progress, int threads);
  bool has_keys() const { return secret_.has_value(); }
  const std::string& key_id() const { return evaluation().id(); }
  void upload_keys(const ProgressCallback& progress = {}) const;
  bool delete_keys(const ProgressCallback& progress = {}) const;

  IntegerTensors predict(const IntegerTensors& inputs, const ProgressCallback& progress = {}) const;
  IntegerTensors infer(const IntegerTensors& inputs, const ProgressCallback& progress = {}) const;
  // Ids of its parts.
  std::vector<std::string> submit(const IntegerTensors& inputs,
                                  const ProgressCallback& progress = {}) const;
  RemoteProgress progress(const std::vector<std::string>& ids,
                          const ProgressCallback& progress = {}) const;
  IntegerTensors result(const std::vector<std::string>& ids,
                        const ProgressCallback& progress = {}) const;
  void cancel(const std::vector<std::string>& ids, const ProgressCallback& progress = {}) const;

  TransferCounts transfer() const { return server_.counts(); }
  // Most samples of one request.
  std::int64_t samples_per_request() const;

 private:
  const SecretKeySet& secret() const;
  const EvaluationFile& evaluation() const;
  void upload(const CallContext& call) const;
  bool key_is_missing(const CallContext& call) const;
  RemoteKeyState key_on_server(const CallContext& call) const;
  InferenceBody request_of(const IntegerTensors& part) const;
  std::uint64_t most_result_bytes(std::int64_t samples) const;
  IntegerTensors decrypted(std::string_view results) const;
  template <class Send>
  std::string send(const Send& send, const CallContext& call) const;
  std::string submit_part(const IntegerTensors& part, const CallContext& call) const;
  std::string wait_for(const std::string& id, const CallContext& call, RemoteProgress& shown) const;
  std::string result_of(const std::string& id, const CallContext& call) const;
  void check_state(const RemoteJobState& job, const std::string& id) const;
  void forget(const std::vector<std::string>& ids) const noexcept;

  RemoteSettings settings_;  // without the token
  ServerApi server_;
  ClientHalf half_;
  ModelClient client_;
  std::optional<SecretKeySet> secret_;
  std::optional<EvaluationFile> evaluation_;
  mutable std::mutex upload_mutex_;
  mutable bool is_uploaded_ = false;
};

}  // namespace torusml
