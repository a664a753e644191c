// The JSON before the bytes of a request for inference and of its answer: the Open Inference
// Protocol with its extension for binary tensors (docs/server.md).
//
//   InferHeader header = parse_infer_header(json, content_length - json.size());
//   HttpResponse response = infer_response("42", *model, outputs);
//
// Thread rule: pure functions.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "server/http_message.h"
#include "server/model_store.h"

namespace torusml {

struct InferHeader {
  std::string id;   // the client's; empty: none
  std::string key;  // 64 hexadecimal digits
  std::uint64_t samples = 0;
};

// `bytes`: of the body after the JSON. Errors request_invalid: 400 for what is no such JSON, 422
// for numbers that contradict each other.
InferHeader parse_infer_header(std::string_view json, std::uint64_t bytes);

// Whether so many samples of the model can be a file of so many bytes. Error request_invalid, 422.
void check_infer_size(const ServedModel& model, std::uint64_t samples, std::uint64_t bytes);

HttpResponse infer_response(const std::string& id, const std::string& model,
                            const std::string& version, std::string outputs);

bool is_key_id(std::string_view text);  // of lower-case digits

}  // namespace torusml
