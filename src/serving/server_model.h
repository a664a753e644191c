// The server's half: a model, evaluation keys, ciphertexts in, ciphertexts out. It never sees a
// secret key.
//
//   ServerModel server(load_server_half("net.tms"));
//   server.load_keys(load_evaluation_keys("eval.key"));   // or with {}, "/var/cache/net" as well
//   save_encrypted_outputs(server.run(load_encrypted_inputs("x.ct")), "y.ct");
//
// and for servers with many clients, a model, keys and requests apart:
//
//   std::vector<EncryptedOutputs> results = run_model(half, keys, {&x1, &x2});
//
// and where several workers share a request, each runs some of its samples (join_outputs.h):
//
//   EncryptedOutputs first = server.run_samples(x, {0, 8});
//
// Cost: the circuit's bootstraps. Thread rule: run is concurrent, load_keys is not.
#pragma once

#include <vector>

#include "artifact/codecs.h"
#include "serving/server_keys.h"
#include "torusml/checkpoint.h"
#include "torusml/limits.h"
#include "torusml/progress.h"
#include "torusml/sample_range.h"

namespace torusml {

std::vector<TfheParameters> needed_key_sets(const ServerHalf& model);

// Samples of a request that fits the model. Errors: wrong_model, wrong_shape, wrong_key
// (ciphertexts of another dimension), invalid_argument (an input that is encrypted where the model
// takes it in the clear, or the other way round; a clear integer beyond its interval).
std::size_t check_inputs(const ServerHalf& model, const EncryptedInputs& inputs);

// Requests under the same keys, worked on as one batch; results by request. progress counts lookups
// and may throw (run_encrypted). Errors: those of check_inputs, wrong_key (also: no keys),
// memory_limit_exceeded, invalid_argument (limits). A checkpoint is of one request; its errors are
// those of load_checkpoint (artifact/checkpoint_file.h), and file_unwritable.
std::vector<EncryptedOutputs> run_model(const ServerHalf& model, const ServerKeys& keys,
                                        const std::vector<const EncryptedInputs*>& requests,
                                        const ProgressCallback& progress = {},
                                        const Limits& limits = {},
                                        const Checkpoint& checkpoint = {});

// The results of some samples of a request; those of all of them, in order, joined by join_outputs,
// are the request's. They are not packed, whatever the plan says. Errors also: wrong_shape for
// samples that the request has not.
EncryptedOutputs run_samples(const ServerHalf& model, const ServerKeys& keys,
                             const EncryptedInputs& request, const SampleRange& samples,
                             const ProgressCallback& progress = {}, const Limits& limits = {});

class ServerModel {
 public:
  explicit ServerModel(ServerHalf model) : model_(std::move(model)) {}

  // Of the model's key sets (prepare_keys). Keys that were loaded before stay if it fails.
  void load_keys(const EvaluationKeySet& keys, const Limits& limits = {},
                 const std::string& prepared_keys = "") {
    keys_ = prepare_keys(keys, needed_key_sets(), limits, prepared_keys, key_bytes());
  }
  std::vector<TfheParameters> needed_key_sets() const { return torusml::needed_key_sets(model_); }
  bool has_keys() const { return !keys_.sets.empty(); }
  std::size_t key_bytes() const { return keys_.bytes(); }  // prepared, in memory
  bool keys_are_mapped() const { return keys_.are_mapped; }
  const std::string& key_warning() const { return keys_.warning; }

  // As run_model.
  EncryptedOutputs run(const EncryptedInputs& inputs, const ProgressCallback& progress = {},
                       const Limits& limits = {}, const Checkpoint& checkpoint = {}) const;
  EncryptedOutputs run_samples(const EncryptedInputs& inputs, const SampleRange& samples,
                               const ProgressCallback& progress = {},
                               const Limits& limits = {}) const {
    return torusml::run_samples(model_, keys_, inputs, samples, progress, limits);
  }

  const ServerHalf& model() const { return model_; }

 private:
  ServerHalf model_;
  ServerKeys keys_;
};

}  // namespace torusml
