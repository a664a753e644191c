// Requests and responses as the handlers see them: no sockets, no bodies that stream.
//
//   HttpRequest request{.method = "GET", .target = "/v2/models"};
//   request.header("authorization");   // whatever case it was sent in; empty: none
//
// Thread rule: value types.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "torusml/error.h"

namespace torusml {

using HttpHeaders = std::vector<std::pair<std::string, std::string>>;

struct HttpRequest {
  std::string method, target;
  HttpHeaders headers;
  std::optional<std::uint64_t> content_length;
  bool is_chunked = false;
  bool is_from_loopback = false;
  std::string id;  // of the request, for the log and the answer

  // The first one of this name. Error request_invalid when it was sent twice.
  std::string_view header(std::string_view name) const;
};

struct HttpResponse {
  int status = 200;
  std::string body;
  std::string content_type = "application/json";
  HttpHeaders headers;
};

// An error that knows its status. Others have one by their code (status_of).
class HttpError : public Error {
 public:
  HttpError(int status, const Error& error, HttpHeaders headers = {})
      : Error(error), status_(status), headers_(std::move(headers)) {}
  int status() const { return status_; }
  const HttpHeaders& headers() const { return headers_; }

 private:
  int status_;
  HttpHeaders headers_;
};

// Of an error that says nothing itself.
int status_of(ErrorCode code);
HttpError as_http(const Error& error);

// The error's body and status. What went wrong inside (status 500) is for the log alone.
HttpResponse error_response(const Error& error, const std::string& request_id);

// Runs action(); its errors of this code get this status.
template <class Action>
auto with_status(ErrorCode code, int status, const HttpHeaders& headers, Action action) {
  try {
    return action();
  } catch (const Error& error) {
    if (error.code() != code || dynamic_cast<const HttpError*>(&error) != nullptr) throw;
    throw HttpError(status, error, headers);
  }
}

// request_invalid with a status.
HttpError bad_request(int status, const std::string& message, const std::string& where = "",
                      const std::string& hint = "");
// server_busy with a status and Retry-After.
HttpError busy(int status, const std::string& message, int retry_after_seconds);
// rate_limited, status 429, with Retry-After.
HttpError too_many(const std::string& message, int retry_after_seconds);

// The id that a client sent, if it is 1 to 64 letters, digits and '-'; a random one otherwise.
std::string request_id(std::string_view sent);
bool is_plain_id(std::string_view text);

}  // namespace torusml
