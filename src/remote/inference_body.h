// Bodies of inference: a JSON object and the bytes of ciphertexts behind it (docs/server.md).
//
//   const InferenceBody body = inference_request(key_id, samples, to_bytes(encrypted));
//   const std::string_view results = inference_result(answer, url);
//
// Thread rule: pure functions.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "remote/http_connection.h"

namespace torusml {

struct InferenceBody {
  std::string bytes;
  std::size_t header_bytes = 0;  // of the JSON
};
InferenceBody inference_request(const std::string& key, std::int64_t samples,
                                std::string_view encrypted);

// The file of encrypted outputs in an answer. Error server_refused, for every way in which sizes
// and names may be other than described.
std::string_view inference_result(const HttpAnswer& answer, const std::string& where);

}  // namespace torusml
