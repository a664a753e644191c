#include "artifact/keys_and_ciphertexts.h"

#include <fmt/format.h>

#include "torusml/error.h"

namespace torusml {

void check_model(const ModelHash& expected, const ModelHash& found, const std::string& what) {
  if (expected == found) return;
  throw Error(ErrorCode::wrong_model,
              fmt::format("{} belongs to model {}, this is model {}", what, short_hex(found),
                          short_hex(expected)),
              "", "encrypt for this model, or take the model that it was encrypted for");
}

void check_key(const KeyId& expected, const KeyId& found, const std::string& what) {
  if (expected == found) return;
  throw Error(ErrorCode::wrong_key,
              fmt::format("{} is under key {}, this is key {}", what, short_hex(found),
                          short_hex(expected)),
              "", "take the secret key and the evaluation keys of one and the same key generation");
}

}  // namespace torusml
