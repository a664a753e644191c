// What TorusML stores, to and from containers. docs/formats.md has every section.
//
//   save_model(model, "net.tml");
//   StoredModel stored = load_model("net.tml");
//   save_secret_keys(secret, "client.key", /*replace=*/false);
//   std::string bytes = to_bytes(encrypted_inputs);
//   EncryptedInputs back = encrypted_inputs_from_bytes(bytes);
//
// Everything that is read is checked: sizes before allocation, SHA-256 of every section, and every
// number that other rooms rely on. Errors of all readers: file_unreadable, file_truncated,
// file_foreign, file_version, file_corrupt. Of all writers: file_unwritable. Thread rule: pure
// functions.
#pragma once

#include <string>
#include <string_view>

#include "artifact/hash.h"
#include "artifact/keys_and_ciphertexts.h"
#include "plan/compiled_model.h"

namespace torusml {

struct StoredModel {
  CompiledModel model;
  ModelHash hash;
  std::string producer;  // the program that wrote the file
};

ModelHash hash_of(const CompiledModel& model);
std::string to_bytes(const CompiledModel& model);
void save_model(const CompiledModel& model, const std::string& path);
StoredModel load_model(const std::string& path);
StoredModel model_from_bytes(std::string_view bytes, const std::string& name = "model");

// A file of mode 0600. Unless replace, an existing file is kept (error file_unwritable).
void save_secret_keys(const SecretKeySet& keys, const std::string& path, bool replace);
// Both or none, unless the system fails between two renames.
void save_key_pair(const SecretKeySet& secret, const std::string& secret_path, bool replace_secret,
                   const EvaluationKeySet& evaluation, const std::string& evaluation_path);
SecretKeySet load_secret_keys(const std::string& path);

std::string to_bytes(const EvaluationKeySet& keys);
void save_evaluation_keys(const EvaluationKeySet& keys, const std::string& path);
EvaluationKeySet load_evaluation_keys(const std::string& path);
EvaluationKeySet evaluation_keys_from_bytes(std::string_view bytes,
                                            const std::string& name = "evaluation keys");

// Inputs and outputs are both of kind ciphertext; taking one for the other is file_foreign.
std::string to_bytes(const EncryptedInputs& inputs);
void save_encrypted_inputs(const EncryptedInputs& inputs, const std::string& path);
EncryptedInputs load_encrypted_inputs(const std::string& path);
EncryptedInputs encrypted_inputs_from_bytes(std::string_view bytes,
                                            const std::string& name = "encrypted inputs");

std::string to_bytes(const EncryptedOutputs& outputs);
void save_encrypted_outputs(const EncryptedOutputs& outputs, const std::string& path);
EncryptedOutputs load_encrypted_outputs(const std::string& path);
EncryptedOutputs encrypted_outputs_from_bytes(std::string_view bytes,
                                              const std::string& name = "encrypted outputs");

}  // namespace torusml
