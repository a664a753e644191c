// What torusml::Client holds. Private to this room.
#pragma once

#include <optional>

#include "artifact/codecs.h"
#include "client/model_client.h"
#include "torusml/client.h"
#include "torusml/error.h"

namespace torusml {

struct Client::State {
  ClientHalf half;
  ModelClient client;
  std::optional<SecretKeySet> secret;
  std::optional<EvaluationKeySet> evaluation;

  explicit State(ClientHalf given) : half(std::move(given)), client(half) {}

  const SecretKeySet& keys() const {
    if (secret) return *secret;
    throw Error(ErrorCode::wrong_key, "the client has no keys", "",
                "generate_keys() or load_secret_key()");
  }
};

}  // namespace torusml
