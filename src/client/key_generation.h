// Keys of one model or of several: one secret key serves every model compiled on its key sets.
//
//   std::vector<ClientHalf> models{load_client_half("a.tmc"), load_client_half("b.tmc")};
//   SecretKeySet secret = make_secret_keys(models);
//   EvaluationKeySet evaluation = make_evaluation_keys(secret, secret.key_sets);
//
// Thread rule: pure functions. Cost: about a second for the evaluation keys of one key set.
#pragma once

#include <vector>

#include "artifact/codecs.h"
#include "torusml/progress.h"

namespace torusml {

// What the models need together, each key set once. Error wrong_key says which models need
// different secret keys: their key sets have big keys of different size or noise.
std::vector<TfheParameters> key_sets_of(const std::vector<ClientHalf>& models);

// Provenance is the first model's.
SecretKeySet make_secret_keys(const std::vector<ClientHalf>& models);

// For these key sets of the secret key; empty material for one without bootstrap. progress counts
// steps of blind rotations. Error invalid_argument (threads, see Limits).
EvaluationKeySet make_evaluation_keys(const SecretKeySet& keys,
                                      const std::vector<TfheParameters>& key_sets,
                                      const ProgressCallback& progress = {}, int threads = 0);

}  // namespace torusml
