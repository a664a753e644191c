// Secret keys, encryption and decryption. Clients only: target torusml_tfhe_secret.
//
//   SecretGenerator random;
//   SecretKeys keys = SecretKeys::generate(parameters, random);
//   SeededLweBatch x = encrypt(keys, phases, random);
//   SecretBuffer<Torus> phases = decrypt(keys, lwe_batch);   // of the big key, noise included
//   SeededEvaluationKeys evaluation = make_evaluation_keys(keys, random);
//
// Several key sets may bootstrap under one secret, if they have the big key in common: the small
// key of each is a beginning of it. Their results add up like those of one set.
//
//   SeededEvaluationKeys precise = make_evaluation_keys(keys, other_parameters, random);
//
// Exact modulo 2^64: products with the key never go through a lossy transform.
// Thread rule: const use is concurrent; one SecretGenerator per thread.
#pragma once

#include <span>
#include <vector>

#include "random/generator.h"
#include "tfhe/ciphertext.h"
#include "torusml/progress.h"

namespace torusml {

struct SecretKeys {
  TfheParameters parameters;
  SecretBuffer<std::uint64_t>
      big;  // k * N bits, one per word; polynomial r is [r * N, (r + 1) * N)

  // The small key is the beginning of the big one, so that a keyswitch has to deal with the rest
  // only. Empty without bootstrap.
  std::span<const std::uint64_t> small() const {
    return {big.data(), parameters.has_bootstrap() ? parameters.small_dimension.value : 0};
  }

  static SecretKeys generate(const TfheParameters& parameters, SecretGenerator& random);
};

// Encrypts torus phases under the big key with the variance of the GLWE key.
SeededLweBatch encrypt(const SecretKeys& keys, std::span<const Torus> phases,
                       SecretGenerator& random);

// b - <a, s> for each ciphertext under the big key. Error wrong_key if dimensions differ.
SecretBuffer<Torus> decrypt(const SecretKeys& keys, const LweBatch& ciphertexts);

// The same of packed results, in their order. Error wrong_key if dimensions differ or are no power
// of two. Cost: N multiply-adds a result.
SecretBuffer<Torus> decrypt(const SecretKeys& keys, const PackedResults& results);

// Parallel. progress counts steps of the blind rotation.
SeededEvaluationKeys make_evaluation_keys(const SecretKeys& keys, SecretGenerator& random,
                                          const ProgressCallback& progress = {});

// The same for another key set, with a seed of its own. Error wrong_key unless
// shares_big_key(parameters, keys.parameters).
SeededEvaluationKeys make_evaluation_keys(const SecretKeys& keys, const TfheParameters& parameters,
                                          SecretGenerator& random,
                                          const ProgressCallback& progress = {});

}  // namespace torusml
