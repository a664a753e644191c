// The server's half: a model, evaluation keys, ciphertexts in, ciphertexts out. It never sees a
// secret key.
//
//   ServerModel server(load_server_half("net.tms"));
//   server.load_keys(load_evaluation_keys("eval.key"));   // or with {}, "/var/cache/net" as well
//   save_encrypted_outputs(server.run(load_encrypted_inputs("x.ct")), "y.ct");
//
// Cost: load_keys expands and transforms the keys (under a second at 4 bits), or maps their file;
// run is the circuit's bootstraps. Thread rule: run is concurrent, load_keys is not.
#pragma once

#include <vector>

#include "artifact/codecs.h"
#include "artifact/prepared_keys_file.h"
#include "torusml/limits.h"
#include "torusml/progress.h"

namespace torusml {

class ServerModel {
 public:
  explicit ServerModel(ServerHalf model) : model_(std::move(model)) {}
  ServerModel(ServerModel&&) = default;  // keys are never copied
  ServerModel& operator=(ServerModel&&) = default;

  // Loads the keys of the model's key sets. Errors: wrong_key when one of these is missing;
  // memory_limit_exceeded, invalid_argument (limits). Keys that were loaded before stay then.
  // prepared_keys: the folder of load_prepared_keys; empty: none.
  void load_keys(const EvaluationKeySet& keys, const Limits& limits = {},
                 const std::string& prepared_keys = "");
  std::vector<TfheParameters> needed_key_sets() const;
  bool has_keys() const { return !keys_.empty(); }
  std::size_t key_bytes() const;                                   // prepared, in memory
  bool keys_are_mapped() const { return keys_are_mapped_; }        // of all key sets
  const std::string& key_warning() const { return key_warning_; }  // the first of a key set

  // progress counts bootstraps. Errors: wrong_model, wrong_key (also: no keys loaded), wrong_shape,
  // memory_limit_exceeded, invalid_argument (limits).
  EncryptedOutputs run(const EncryptedInputs& inputs, const ProgressCallback& progress = {},
                       const Limits& limits = {}) const;

  const ServerHalf& model() const { return model_; }

 private:
  ServerHalf model_;
  Provenance provenance_;
  std::vector<EvaluationKeys> keys_;  // by key set of the plan
  bool keys_are_mapped_ = false;
  std::string key_warning_;
};

}  // namespace torusml
