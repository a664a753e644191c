// A model that a server can run in a moment, far below any security level, and a client of it.
// Tests only.
#pragma once

#include <string>

#include "artifact/codecs.h"
#include "artifact/sample_model.h"
#include "base/testing/temporary_folder.h"
#include "client/model_client.h"

namespace torusml {

// `seed` makes other models of the same key sets.
inline StoredModel small_model(std::uint8_t seed = 7) {
  StoredModel stored{runnable_sample_model(), {}, "test"};
  stored.model.plan.outputs.begin()->second.guard += 1e-6 * seed;
  stored.hash = hash_of(stored.model);
  return stored;
}

struct SmallClient {
  explicit SmallClient(const StoredModel& model = small_model())
      : stored(model),
        client(model.model.client, model.hash),
        secret(client.make_secret_keys()),
        keys(to_bytes(client.make_evaluation_keys(secret, {}, 1))),
        key_id(to_hex(sha256(as_bytes(keys)))) {}

  EncryptedInputs encrypt(std::int64_t samples, std::int64_t first = 0) const {
    Tensor<std::int64_t> x{{samples, 2}, {}};
    for (std::int64_t i = 0; i < 2 * samples; ++i) x.data.push_back((i + first) % 8 - 3);
    return client.encrypt(secret, {x});
  }
  std::vector<std::int64_t> decrypt(const std::string& outputs) const {
    return client.decrypt(secret, encrypted_outputs_from_bytes(outputs))[0].data;
  }
  // Of encrypt(samples, first), by hand: relu1 of fc1 is whether the sum is positive.
  static std::vector<std::int64_t> expected(std::int64_t samples, std::int64_t first = 0) {
    const int weights[3][2] = {{1, 2}, {3, 4}, {5, -5}};
    std::vector<std::int64_t> y;
    for (std::int64_t s = 0; s < samples; ++s) {
      for (const auto& w : weights)
        y.push_back(w[0] * ((2 * s + first) % 8 - 3) + w[1] * ((2 * s + 1 + first) % 8 - 3) > 0);
    }
    return y;
  }

  StoredModel stored;
  ModelClient client;
  SecretKeySet secret;
  std::string keys, key_id;  // the file of evaluation keys
};

}  // namespace torusml
