#include "remote/server_error.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

namespace torusml {
namespace {

constexpr std::size_t kMostText = 2000;

// Text of somebody else, for terminals and logs.
std::string cleaned(std::string_view text) {
  std::string clean(text.substr(0, kMostText));
  for (char& c : clean) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7f) c = ' ';
  }
  return clean;
}

std::string text_of(const nlohmann::json& json, const char* key) {
  const auto found = json.find(key);
  return found == json.end() || !found->is_string() ? "" : cleaned(found->get<std::string>());
}

// "TML-E034 not-found"
std::optional<ErrorCode> code_named(std::string_view name) {
  for (const ErrorCode code : {
#define TORUSML_CODE(enumerator, number, slug) ErrorCode::enumerator,
           TORUSML_ERROR_CODES(TORUSML_CODE)
#undef TORUSML_CODE
       }) {
    if (name == error_code_name(code)) return code;
  }
  return std::nullopt;
}

}  // namespace

std::optional<Error> error_from_json(const nlohmann::json& json, const std::string& where) {
  if (!json.is_object() || !json.contains("message")) return std::nullopt;
  const std::optional<ErrorCode> code = code_named(text_of(json, "code"));
  if (!code) return std::nullopt;
  const std::string place = text_of(json, "where");
  return Error(*code, text_of(json, "message"), place.empty() ? where : place,
               text_of(json, "hint"));
}

Error error_of(const HttpAnswer& answer, const std::string& where) {
  const nlohmann::json json = nlohmann::json::parse(answer.body, nullptr, false);
  if (const std::optional<Error> known = error_from_json(json, where)) return *known;
  std::string what = fmt::format("status {}", answer.status);
  std::string hint;
  if (answer.status >= 300 && answer.status < 400) {
    what += fmt::format(" to '{}'", cleaned(answer.header("Location")));
    hint = "redirects are not followed: the server's own address";
  } else if (json.is_object()) {
    const std::string text = text_of(json, "error");
    what += fmt::format(", {}", text.empty() ? "without a code of TorusML" : text);
  } else {
    what += " and no JSON";
  }
  return Error(ErrorCode::server_refused, what, where, hint);
}

nlohmann::json json_object(const HttpAnswer& answer, const std::string& where) {
  nlohmann::json json = nlohmann::json::parse(answer.body, nullptr, false);
  if (json.is_object()) return json;
  throw Error(ErrorCode::server_refused, fmt::format("status {} and no JSON object", answer.status),
              where);
}

std::optional<double> retry_after_s(const HttpAnswer& answer) {
  const std::string_view text = answer.header("Retry-After");
  unsigned seconds = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), seconds);
  if (text.empty() || error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return seconds;
}

}  // namespace torusml
