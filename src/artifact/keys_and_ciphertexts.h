// Key sets and encrypted tensors as they are stored and sent: each says which model and which key
// it belongs to.
//
// A secret key set, its evaluation keys and all ciphertexts under it carry the same KeyId. Keys fit
// every model whose key sets are among theirs; ciphertexts belong to one model. Thread rule: value
// types; const use is concurrent. SecretKeySet is never copied.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "artifact/hash.h"
#include "plan/plan.h"
#include "tfhe/ciphertext.h"
#include "tfhe/secret_keys.h"
#include "torusml/tensor.h"

namespace torusml {

struct Provenance {
  ModelHash model;  // of keys: the model that they were made for
  KeyId key;
  Profile profile = Profile::private_results;
  double p_error = 0;
  int security_bits = 128;

  friend bool operator==(const Provenance&, const Provenance&) = default;
};

struct SecretKeySet {
  Provenance provenance;
  std::vector<TfheParameters> key_sets;  // all with the same big key
  SecretKeys keys;                       // with the parameters of the first
};

struct EvaluationKeySet {
  Provenance provenance;
  std::vector<SeededEvaluationKeys> keys;  // by key set, under one secret key

  friend bool operator==(const EvaluationKeySet&, const EvaluationKeySet&) = default;
};

struct EncryptedInput {
  std::string name;
  Shape shape;                 // (batch, shape of one sample)
  SeededLweBatch ciphertexts;  // one per element, row-major; of a clear input the dimension alone
  // Of an input that travels in the clear: its integers, row-major.
  std::optional<std::vector<std::int64_t>> clear{};

  std::size_t elements() const { return clear ? clear->size() : ciphertexts.bodies.size(); }

  friend bool operator==(const EncryptedInput&, const EncryptedInput&) = default;
};

struct EncryptedInputs {
  Provenance provenance;
  std::vector<EncryptedInput> tensors;  // in the model's order

  friend bool operator==(const EncryptedInputs&, const EncryptedInputs&) = default;
};

struct EncryptedOutput {
  std::string name;
  Shape shape;
  int wire_bits = 64;    // of every word; the bits below are zero
  LweBatch ciphertexts;  // one per element, row-major; none where results are packed
  std::optional<PackedResults> packed{};

  std::size_t elements() const { return packed ? packed->count : ciphertexts.count; }
  LweDimension dimension() const { return packed ? packed->dimension : ciphertexts.dimension; }
};

struct EncryptedOutputs {
  Provenance provenance;
  std::vector<EncryptedOutput> tensors;
};

// Errors wrong_model and wrong_key, with both ids. `what` is "the ciphertext", say.
void check_model(const ModelHash& expected, const ModelHash& found, const std::string& what);
void check_key(const KeyId& expected, const KeyId& found, const std::string& what);

// Error wrong_key naming the first key set of those that a model needs which is not among the given
// ones. `what`: whose they are, "the evaluation keys", say.
void check_key_sets(const std::vector<TfheParameters>& needed,
                    const std::vector<TfheParameters>& given, const std::string& what);
std::vector<TfheParameters> parameters_of(const std::vector<SeededEvaluationKeys>& keys);
// Hexadecimal, of the parameters in their order: models of the same one can share keys.
std::string key_sets_id(const std::vector<TfheParameters>& key_sets);

}  // namespace torusml
