#include "server/infer_body.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

namespace torusml {
namespace {

using Json = nlohmann::json;

// What a file of encrypted inputs has beside its bodies: a header, names, alignment.
constexpr std::uint64_t kFileOverhead = 65536;

HttpError bad_json(const std::string& message) {
  return bad_request(400, message, "the request's JSON",
                     "docs/server.md shows a request; GET /v2/openapi.json describes it");
}

const Json& member(const Json& object, const char* name) {
  if (!object.is_object() || !object.contains(name))
    throw bad_json(fmt::format("there is no '{}'", name));
  return object[name];
}

std::uint64_t number(const Json& object, const char* name) {
  const Json& value = member(object, name);
  if (!value.is_number_unsigned()) throw bad_json(fmt::format("'{}' is not a whole number", name));
  return value.get<std::uint64_t>();
}

std::string text(const Json& object, const char* name) {
  const Json& value = member(object, name);
  if (!value.is_string()) throw bad_json(fmt::format("'{}' is not text", name));
  return value.get<std::string>();
}

// The one tensor, of `bytes` bytes.
void check_tensor(const Json& inputs, std::uint64_t bytes) {
  if (!inputs.is_array() || inputs.size() != 1)
    throw bad_json("'inputs' is not a list of one tensor");
  const Json& tensor = inputs[0];
  if (text(tensor, "name") != "encrypted_inputs" || text(tensor, "datatype") != "UINT8")
    throw bad_json("the tensor is not 'encrypted_inputs' of datatype UINT8");
  if (member(tensor, "shape") != Json::array({bytes}) ||
      number(member(tensor, "parameters"), "binary_data_size") != bytes) {
    throw bad_request(422,
                      fmt::format("{} bytes follow the JSON; its 'shape' or 'binary_data_size' "
                                  "says otherwise",
                                  bytes),
                      "encrypted_inputs");
  }
}

}  // namespace

bool is_key_id(std::string_view text) {
  return text.size() == 64 && std::ranges::all_of(text, [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
         });
}

InferHeader parse_infer_header(std::string_view json, std::uint64_t bytes) {
  const Json request = Json::parse(json, nullptr, /*allow_exceptions=*/false);
  if (request.is_discarded()) throw bad_json("it is not JSON");
  check_tensor(member(request, "inputs"), bytes);
  const Json& parameters = member(request, "parameters");
  InferHeader header{"", text(parameters, "key"), number(parameters, "samples")};
  if (!is_key_id(header.key)) throw bad_json("'key' is not 64 hexadecimal digits");
  if (request.contains("id")) header.id = text(request, "id");
  if (header.id.size() > 64) throw bad_json("'id' is longer than 64 bytes");
  return header;
}

void check_infer_size(const ServedModel& model, std::uint64_t samples, std::uint64_t bytes) {
  // Before anything is multiplied.
  const std::uint64_t most = bytes / std::max<std::uint64_t>(model.sample_bytes, 1);
  if (samples >= 1 && samples <= most && bytes - samples * model.sample_bytes <= kFileOverhead)
    return;
  throw bad_request(422,
                    fmt::format("{} bytes are not {} samples of this model, which take {} bytes "
                                "each and up to {} for the file",
                                bytes, samples, model.sample_bytes, kFileOverhead),
                    "encrypted_inputs");
}

HttpResponse infer_response(const std::string& id, const std::string& model,
                            const std::string& version, std::string outputs) {
  Json json = {{"model_name", model},
               {"model_version", version},
               {"outputs",
                {{{"name", "encrypted_outputs"},
                  {"datatype", "UINT8"},
                  {"shape", {outputs.size()}},
                  {"parameters", {{"binary_data_size", outputs.size()}}}}}}};
  if (!id.empty()) json["id"] = id;
  const std::string head = json.dump(-1, ' ', false, Json::error_handler_t::replace);
  HttpResponse response;
  response.content_type = "application/octet-stream";
  response.headers.push_back({"Inference-Header-Content-Length", std::to_string(head.size())});
  response.body = head + outputs;
  return response;
}

}  // namespace torusml
