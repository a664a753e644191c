// Results of one request, worked on in parts by several workers, put together again.
//
//   const EncryptedOutputs first = server.run_samples(x, {0, 8});
//   const EncryptedOutputs rest = server.run_samples(x, {8, 5});
//   const EncryptedOutputs y = join_outputs({&first, &rest});   // as server.run(x)
//
// Thread rule: pure function. Cost: a copy of the ciphertexts.
#pragma once

#include <vector>

#include "artifact/keys_and_ciphertexts.h"

namespace torusml {

// The samples of all parts, in their order. Errors: invalid_argument without any part; wrong_model,
// wrong_key, wrong_shape (also: words of other bits) when they do not belong together;
// not_supported for packed results, which parts are not.
EncryptedOutputs join_outputs(const std::vector<const EncryptedOutputs*>& parts);

}  // namespace torusml
