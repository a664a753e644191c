// The server's half: a model, evaluation keys, ciphertexts in, ciphertexts out. It never sees a
// secret key.
//
//   ServerModel server(load_model("net.tml"));
//   server.load_keys(load_evaluation_keys("eval.key"));   // or with {}, "/var/cache/net" as well
//   save_encrypted_outputs(server.run(load_encrypted_inputs("x.ct")), "y.ct");
//
// Cost: load_keys expands and transforms the keys (under a second at 4 bits), or maps their file;
// run is the circuit's bootstraps. Thread rule: run is concurrent, load_keys is not.
#pragma once

#include <optional>

#include "artifact/codecs.h"
#include "artifact/prepared_keys_file.h"
#include "torusml/limits.h"
#include "torusml/progress.h"

namespace torusml {

class ServerModel {
 public:
  explicit ServerModel(StoredModel model) : model_(std::move(model)) {}

  // Errors: wrong_key when the keys have other parameters than the model; memory_limit_exceeded,
  // invalid_argument (limits). Keys that were loaded before stay then. prepared_keys: the folder of
  // load_prepared_keys; empty: none.
  void load_keys(const EvaluationKeySet& keys, const Limits& limits = {},
                 const std::string& prepared_keys = "");
  bool has_keys() const { return keys_.has_value(); }
  std::size_t key_bytes() const { return keys_ ? keys_->keys.bytes() : 0; }  // prepared, in memory
  bool keys_are_mapped() const { return keys_ && keys_->is_mapped; }
  std::string key_warning() const { return keys_ ? keys_->warning : ""; }

  // progress counts bootstraps. Errors: wrong_model, wrong_key (also: no keys loaded), wrong_shape,
  // memory_limit_exceeded, invalid_argument (limits).
  EncryptedOutputs run(const EncryptedInputs& inputs, const ProgressCallback& progress = {},
                       const Limits& limits = {}) const;

  const StoredModel& model() const { return model_; }

 private:
  StoredModel model_;
  Provenance provenance_;
  std::optional<LoadedKeys> keys_;
};

}  // namespace torusml
