// The client's half of a model: quantize, encrypt, decrypt, dequantize. It knows shapes, quantizers
// and encodings; no weights, and it needs no bootstrap.
//
//   ModelClient client(spec, model_hash);
//   SecretKeySet secret = client.make_secret_keys();
//   EvaluationKeySet evaluation = client.make_evaluation_keys(secret);   // for the server
//   QuantizedInputs x = client.quantize({floats});                      // says how many were
//   clipped EncryptedInputs sent = client.encrypt(secret, x.integers); std::vector<Tensor<double>>
//   y = client.dequantize(client.decrypt(secret, received));
//
// Tensors have the batch as their first axis. Randomness comes from the operating system; nothing
// that is made here can be repeated. Thread rule: const use is concurrent. Cost: evaluation keys
// take about a second; encryption and decryption O(dimension) per element.
#pragma once

#include <cstdint>
#include <vector>

#include "artifact/codecs.h"
#include "plan/client_spec.h"
#include "torusml/progress.h"
#include "torusml/tensor.h"

namespace torusml {

struct QuantizedInputs {
  std::vector<Tensor<std::int64_t>> integers;  // by input
  std::int64_t values = 0;                     // how many there are
  std::int64_t clipped = 0;                    // how many lay outside the quantizer's range
};

class ModelClient {
 public:
  explicit ModelClient(ClientHalf half);
  ModelClient(ClientSpec spec, ModelHash model);

  const ClientSpec& spec() const { return spec_; }
  const ModelHash& model() const { return model_; }

  // Error wrong_key unless the keys have the model's key sets.
  void check_keys(const SecretKeySet& keys) const;
  SecretKeySet make_secret_keys() const;
  // For each of the model's key sets; empty material for a model without lookups. progress counts
  // steps of blind rotations. Error wrong_key, invalid_argument (threads, see Limits).
  EvaluationKeySet make_evaluation_keys(const SecretKeySet& keys,
                                        const ProgressCallback& progress = {},
                                        int threads = 0) const;

  // Errors: wrong_shape, non_finite_value; both name the input.
  QuantizedInputs quantize(const std::vector<Tensor<double>>& values) const;
  // Clear inputs stay integers. Errors: wrong_shape, wrong_key (a key set is missing),
  // invalid_argument (an integer that the encoding of the input does not hold).
  EncryptedInputs encrypt(const SecretKeySet& keys,
                          const std::vector<Tensor<std::int64_t>>& integers) const;

  // Errors: wrong_model, wrong_key, wrong_shape.
  std::vector<Tensor<std::int64_t>> decrypt(const SecretKeySet& keys,
                                            const EncryptedOutputs& results) const;
  // Error wrong_shape.
  std::vector<Tensor<double>> dequantize(const std::vector<Tensor<std::int64_t>>& integers) const;

 private:
  Provenance provenance(const KeyId& key) const;

  ClientSpec spec_;
  ModelHash model_;
};

}  // namespace torusml
