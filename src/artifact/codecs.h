// What TorusML stores, to and from containers. docs/formats.md has every section.
//
//   save_model(model, "net.tml");
//   StoredModel stored = load_model("net.tml");
//   save_secret_keys(secret, "client.key", /*replace=*/false);
//   std::string bytes = to_bytes(encrypted_inputs);
//   EncryptedInputs back = encrypted_inputs_from_bytes(bytes);
//
// Everything that is read is checked: sizes before allocation, SHA-256 of every section, and every
// number that other rooms rely on. Errors of all readers: file_unreadable, file_too_large (of more
// bytes than the caller takes), file_truncated, file_foreign, file_version, file_corrupt. Of all
// writers: file_unwritable. Thread rule: pure functions.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "artifact/container.h"
#include "artifact/hash.h"
#include "artifact/keys_and_ciphertexts.h"
#include "artifact/sealing.h"
#include "plan/compiled_model.h"
#include "plan/server_spec.h"

namespace torusml {

struct StoredModel {
  CompiledModel model;
  ModelHash hash;
  std::string producer;  // the program that wrote the file
};

ModelHash hash_of(const CompiledModel& model);
std::string to_bytes(const CompiledModel& model);
void save_model(const CompiledModel& model, const std::string& path);
StoredModel load_model(const std::string& path, std::uint64_t max_bytes = kNoLimit);
StoredModel model_from_bytes(std::string_view bytes, std::uint64_t max_bytes = kNoLimit,
                             const std::string& name = "model");

// The two halves of a model (docs/deployment.md). Both say which model they are of.
struct ClientHalf {
  ClientSpec spec;
  ModelHash hash;
  std::string producer;
};
struct ServerHalf {
  ServerSpec spec;
  ModelHash hash;
  std::string producer;
};
ClientHalf client_half(const StoredModel& model);
ServerHalf server_half(const StoredModel& model);

std::string to_bytes(const ClientHalf& half);
std::string to_bytes(const ServerHalf& half);
void save_client_half(const ClientHalf& half, const std::string& path);
void save_server_half(const ServerHalf& half, const std::string& path);
// Of a half or of a whole model.
ClientHalf load_client_half(const std::string& path, std::uint64_t max_bytes = kNoLimit);
ServerHalf load_server_half(const std::string& path, std::uint64_t max_bytes = kNoLimit);
ClientHalf client_half_from_bytes(std::string_view bytes, std::uint64_t max_bytes = kNoLimit,
                                  const std::string& name = "client's half");
ServerHalf server_half_from_bytes(std::string_view bytes, std::uint64_t max_bytes = kNoLimit,
                                  const std::string& name = "server's half");

// A file of mode 0600; sealed unless the passphrase is empty. Unless replace, an existing file is
// kept (error file_unwritable).
void save_secret_keys(const SecretKeySet& keys, const std::string& path, bool replace,
                      std::span<const std::uint8_t> passphrase = {});
// Both or none, unless the system fails between two renames.
void save_key_pair(const SecretKeySet& secret, const std::string& secret_path, bool replace_secret,
                   const EvaluationKeySet& evaluation, const std::string& evaluation_path,
                   std::span<const std::uint8_t> passphrase = {});
inline constexpr std::uint64_t kMostSecretKeyBytes = std::uint64_t{16} << 20;
// Errors also: key_exposed, when others may read the file; wrong_passphrase.
SecretKeySet load_secret_keys(const std::string& path, const PassphraseSource& passphrase = {});

// What a reader of evaluation keys takes, checked before memory is allocated for them: files of so
// many bytes, and (error wrong_key) those that have the needed key sets.
struct KeyLimits {
  std::uint64_t max_bytes = kNoLimit;
  std::vector<TfheParameters> needed;
};
std::string to_bytes(const EvaluationKeySet& keys);
void save_evaluation_keys(const EvaluationKeySet& keys, const std::string& path);
EvaluationKeySet load_evaluation_keys(const std::string& path, const KeyLimits& limits = {});
EvaluationKeySet evaluation_keys_from_bytes(std::string_view bytes, const KeyLimits& limits = {},
                                            const std::string& name = "evaluation keys");

// Inputs and outputs are both of kind ciphertext; taking one for the other is file_foreign.
std::string to_bytes(const EncryptedInputs& inputs);
void save_encrypted_inputs(const EncryptedInputs& inputs, const std::string& path);
EncryptedInputs load_encrypted_inputs(const std::string& path, std::uint64_t max_bytes = kNoLimit);
EncryptedInputs encrypted_inputs_from_bytes(std::string_view bytes,
                                            std::uint64_t max_bytes = kNoLimit,
                                            const std::string& name = "encrypted inputs");

std::string to_bytes(const EncryptedOutputs& outputs);
void save_encrypted_outputs(const EncryptedOutputs& outputs, const std::string& path);
EncryptedOutputs load_encrypted_outputs(const std::string& path,
                                        std::uint64_t max_bytes = kNoLimit);
EncryptedOutputs encrypted_outputs_from_bytes(std::string_view bytes,
                                              std::uint64_t max_bytes = kNoLimit,
                                              const std::string& name = "encrypted outputs");

}  // namespace torusml
