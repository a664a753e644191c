// A client of a TorusML server (docs/server.md): keys are made here, only ciphertexts and
// evaluation keys leave.
//
//   torusml::RemoteClient client("https://fhe.example.org:8443", {.model = "net", .token = token});
//   client.open_keys("client.key");            // made the first time, with client.key.eval beside
//   it auto y = client.predict({x});              // uploads evaluation keys once
//   torusml::RemoteJob job = client.submit({x});
//   auto z = job.result();
//
// In libtorusml and in libtorusml_client, which has no compiler, no ONNX and no server. Tensors
// have the batch as their first axis. What may be repeated is repeated after lost connections and
// where the server is busy; a synchronous inference is not, once it may have begun. `progress` of
// every call is called some times a second, also while nothing changes, and what it throws stops
// the call. Thread rule: const use is concurrent. Errors: torusml::Error; those of the server keep
// its code, message, place and hint; deadline_exceeded; server_refused, where no TorusML server
// answers.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "torusml/export.h"
#include "torusml/progress.h"
#include "torusml/tensor.h"

namespace torusml {

struct RemoteSettings {
  std::string model;    // its name at the server
  std::string version;  // empty: the server's default
  std::string token;    // empty: none
  std::string ca_file;  // certificates in PEM that https trusts; empty: the system's
  // A token over http to another machine, where everybody on the way can read it.
  bool allow_plain_http = false;
  // Hexadecimal, of the model that is expected; error wrong_model for another. Empty: any.
  std::string model_hash;
  // Inputs, by name, that may travel in the clear (docs/deployment.md): it is the server that says
  // which ones its model takes so. Error invalid_argument for a model with others.
  std::vector<std::string> clear_inputs;
  double connect_timeout_s = 10;
  double idle_timeout_s = 30;  // nothing sent or received, the server's computing apart
  double deadline_s = 0;       // of one call; 0: none
  double patience_s = 60;      // how long failures are answered by trying again
  // A batch of more is sent in several requests; one sample is never divided.
  std::uint64_t max_request_bytes = std::uint64_t{8} << 20;
  std::uint32_t max_request_samples = 1024;
  std::uint64_t upload_part_bytes = std::uint64_t{32} << 20;
};

// Of the bodies of requests and answers and their headers; TLS not counted.
struct TransferCounts {
  std::uint64_t sent_bytes = 0, received_bytes = 0;
  std::uint64_t key_bytes = 0;  // evaluation keys among those sent
  std::uint64_t requests = 0, repeats = 0;
};

struct RemoteProgress {
  std::uint64_t done = 0, total = 0;  // lookups
  bool finished = false;
};

class RemoteModel;

// A batch that the server works on, perhaps in several parts. It outlives the connection and the
// server's restarts; ids() find it again.
class TORUSML_EXPORT RemoteJob {
 public:
  RemoteJob(std::shared_ptr<const RemoteModel> model, std::vector<std::string> ids);

  const std::vector<std::string>& ids() const { return ids_; }
  RemoteProgress progress() const;
  // Waits, and then forgets the job at the server. Errors: what the job failed with; cancelled;
  // not_found, the second time.
  std::vector<Tensor<double>> result(const ProgressCallback& progress = {}) const;
  void cancel() const;  // and forget; nothing happens to one that is not there any more

 private:
  std::shared_ptr<const RemoteModel> model_;
  std::vector<std::string> ids_;
};

class TORUSML_EXPORT RemoteClient {
 public:
  // Asks the server for the client's half of the model. Errors also: wrong_model; no_parameters (a
  // half whose keys would be weaker than its level of security); invalid_argument (the url, or a
  // token over http to another machine).
  RemoteClient(const std::string& url, const RemoteSettings& settings);
  ~RemoteClient();
  RemoteClient(RemoteClient&&) noexcept;
  RemoteClient& operator=(RemoteClient&&) noexcept;

  // Keys that live in memory. threads: at most so many; 0: all.
  void generate_keys(const ProgressCallback& progress = {}, int threads = 0);
  // Those of a file (mode 0600; sealed, if there is a passphrase), made where there is none. The
  // evaluation keys are in a file beside it, or at `evaluation`; made anew from the secret key
  // where there is none. Errors: as Client::load_secret_key.
  void open_keys(const std::string& secret, std::string_view passphrase = {},
                 const std::string& evaluation = "", const ProgressCallback& progress = {},
                 int threads = 0);
  // Sends evaluation keys unless the server has them; continues where an upload stopped. progress
  // counts bytes. Called by the functions below, too.
  void upload_keys(const ProgressCallback& progress = {}) const;
  bool delete_keys() const;    // the server's copy; false: it had none
  std::string key_id() const;  // SHA-256 of the evaluation keys' file
  std::string model_hash() const;
  std::string metadata() const;  // JSON, as the server describes the model

  // By a job: with progress, safe to repeat, as long as it takes.
  std::vector<Tensor<double>> predict(const std::vector<Tensor<double>>& inputs,
                                      const ProgressCallback& progress = {}) const;
  // One exchange for each part of the batch, without progress and repetition: the least delay.
  std::vector<Tensor<double>> infer(const std::vector<Tensor<double>>& inputs,
                                    const ProgressCallback& progress = {}) const;
  RemoteJob submit(const std::vector<Tensor<double>>& inputs,
                   const ProgressCallback& progress = {}) const;
  RemoteJob job(std::vector<std::string> ids) const;

  TransferCounts transfer() const;

 private:
  std::shared_ptr<RemoteModel> model_;
};

}  // namespace torusml
