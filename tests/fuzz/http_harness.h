// Requests to a server, header and body as they come from a socket, without one. Tests only.
#pragma once

#include <string>
#include <string_view>

#include "harnesses.h"

namespace torusml::fuzz {

// A request for inference with lengths that agree, whatever its JSON and its bytes are.
std::string infer_request(std::string_view json, std::string_view bytes);
// The JSON that belongs to so many bytes.
std::string infer_json(const std::string& key, std::size_t bytes);

// Header, route, limits, JSON, ciphertext and upload, as a server of http_model() reads them; all
// but the run itself. A finding: an error that the client would see as the server's own.
void http(std::string_view request);
// Below the lengths: a part, the JSON, the ciphertext's sections.
void mutate_http(std::string& input, std::size_t limit, unsigned seed, const Mutator& mutator);

}  // namespace torusml::fuzz
