#include "remote/inference_body.h"

#include <fmt/format.h>

#include <charconv>
#include <nlohmann/json.hpp>

#include "torusml/error.h"

namespace torusml {
namespace {

using Json = nlohmann::json;

[[noreturn]] void refuse(const std::string& what, const std::string& where) {
  throw Error(ErrorCode::server_refused, "its answer is no result of inference: " + what, where);
}

std::uint64_t header_bytes_of(const HttpAnswer& answer, const std::string& where) {
  const std::string_view text = answer.header("Inference-Header-Content-Length");
  std::uint64_t bytes = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), bytes);
  if (text.empty() || error != std::errc{} || end != text.data() + text.size())
    refuse("no number in Inference-Header-Content-Length", where);
  if (bytes > answer.body.size())
    refuse(fmt::format("a header of {} bytes in {}", bytes, answer.body.size()), where);
  return bytes;
}

}  // namespace

InferenceBody inference_request(const std::string& key, std::int64_t samples,
                                std::string_view encrypted) {
  const Json header{
      {"parameters", {{"key", key}, {"samples", samples}}},
      {"inputs", Json::array({{{"name", "encrypted_inputs"},
                               {"datatype", "UINT8"},
                               {"shape", {encrypted.size()}},
                               {"parameters", {{"binary_data_size", encrypted.size()}}}}})}};
  InferenceBody body{header.dump(), 0};
  body.header_bytes = body.bytes.size();
  body.bytes += encrypted;
  return body;
}

std::string_view inference_result(const HttpAnswer& answer, const std::string& where) {
  const std::uint64_t header_bytes = header_bytes_of(answer, where);
  const std::string_view body = answer.body;
  const Json header = Json::parse(body.substr(0, header_bytes), nullptr, false);
  const std::string_view content = body.substr(header_bytes);
  try {
    const Json& outputs = header.at("outputs");
    if (!outputs.is_array() || outputs.size() != 1) refuse("not one output", where);
    if (outputs[0].at("name") != "encrypted_outputs")
      refuse("no output 'encrypted_outputs'", where);
    const auto size = outputs[0].at("parameters").at("binary_data_size").get<std::uint64_t>();
    if (size != content.size())
      refuse(fmt::format("{} bytes of results where {} are announced", content.size(), size),
             where);
  } catch (const Json::exception&) {
    refuse("its JSON is not as described", where);
  }
  return content;
}

}  // namespace torusml
