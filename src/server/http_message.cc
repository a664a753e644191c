#include "server/http_message.h"

#include <fmt/format.h>
#include <strings.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <random>

namespace torusml {
namespace {

bool same_name(std::string_view a, std::string_view b) {
  return a.size() == b.size() && strncasecmp(a.data(), b.data(), a.size()) == 0;
}

HttpError come_back(ErrorCode code, int status, const std::string& message, int seconds) {
  return {status,
          Error(code, message, "", fmt::format("again in {} s", seconds)),
          {{"Retry-After", std::to_string(seconds)}}};
}

}  // namespace

std::string_view HttpRequest::header(std::string_view name) const {
  const std::string* found = nullptr;
  for (const auto& [key, value] : headers) {
    if (!same_name(key, name)) continue;
    if (found != nullptr) throw bad_request(400, fmt::format("the header {} was sent twice", name));
    found = &value;
  }
  return found == nullptr ? std::string_view() : *found;
}

int status_of(ErrorCode code) {
  switch (code) {
    case ErrorCode::unauthorized:
      return 401;
    case ErrorCode::quota_exceeded:
      return 403;
    case ErrorCode::not_found:
      return 404;
    case ErrorCode::cancelled:
      return 409;
    case ErrorCode::file_too_large:
    case ErrorCode::memory_limit_exceeded:
      return 413;
    case ErrorCode::wrong_shape:
    case ErrorCode::wrong_key:
    case ErrorCode::wrong_model:
    case ErrorCode::file_truncated:
    case ErrorCode::file_foreign:
    case ErrorCode::file_version:
    case ErrorCode::file_corrupt:
      return 422;
    case ErrorCode::deadline_exceeded:
      return 504;
    case ErrorCode::server_busy:  // of the registry; other reasons bring their status along
      return 507;
    case ErrorCode::request_invalid:
    case ErrorCode::invalid_argument:
      return 400;
    default:
      return 500;
  }
}

HttpError as_http(const Error& error) {
  const auto* http = dynamic_cast<const HttpError*>(&error);
  return http != nullptr ? *http : HttpError(status_of(error.code()), error);
}

HttpResponse error_response(const Error& error, const std::string& request_id) {
  const HttpError http = as_http(error);
  HttpResponse response;
  response.status = http.status();
  response.headers = http.headers();
  const Error shown = response.status != 500 ? Error(error)
                                             : Error(ErrorCode::internal, "the server failed", "",
                                                     "its log, under the request's id, says why");
  if (response.status == 401) response.headers.push_back({"WWW-Authenticate", "Bearer"});
  const nlohmann::json body = {
      {"error", shown.what()},      {"code", error_code_name(shown.code())},
      {"message", shown.message()}, {"where", shown.where()},
      {"hint", shown.hint()},       {"request_id", request_id}};
  response.body = body.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  return response;
}

HttpError bad_request(int status, const std::string& message, const std::string& where,
                      const std::string& hint) {
  return {status, Error(ErrorCode::request_invalid, message, where, hint)};
}

HttpError busy(int status, const std::string& message, int retry_after_seconds) {
  return come_back(ErrorCode::server_busy, status, message, retry_after_seconds);
}

HttpError too_many(const std::string& message, int retry_after_seconds) {
  return come_back(ErrorCode::rate_limited, 429, message, retry_after_seconds);
}

bool is_plain_id(std::string_view text) {
  return !text.empty() && text.size() <= 64 && std::ranges::all_of(text, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-';
  });
}

std::string request_id(std::string_view sent) {
  if (is_plain_id(sent)) return std::string(sent);
  static thread_local std::mt19937_64 random{std::random_device{}()};
  return fmt::format("{:016x}", random());
}

}  // namespace torusml
