// One HTTP/1.1 connection to a server, over TCP or TLS. Blocking, with timeouts; it can be stopped.
//
//   HttpConnection connection(parse_url("https://fhe.example.org"), {}, {});
//   const HttpAnswer answer = connection.exchange({.method = "GET", .target = "/v2"}, {});
//
// Certificates are checked against the system's authorities or a file of them, and against the
// host's name. Redirects, proxies and compressed answers are not followed, used or asked for.
// Beast is in http_connection.cc alone. Thread rule: one thread at a time.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "artifact/files.h"
#include "remote/url.h"
#include "torusml/error.h"

namespace torusml {

using SteadyTime = std::chrono::steady_clock::time_point;

struct HttpHeader {
  std::string name, value;
};

struct RemoteRequest {
  std::string method = "GET", target = "/";
  std::vector<HttpHeader> headers;  // without Host, Content-Length, Authorization
  // Bytes [body_offset, body_offset + body_bytes) of it, read while they are sent.
  const ByteSource* body = nullptr;
  std::uint64_t body_offset = 0, body_bytes = 0;
  std::string_view token = {};  // sent as Authorization: Bearer
};

struct HttpAnswer {
  int status = 0;
  std::vector<HttpHeader> headers;
  std::string body;
  // The first of this name in any case; empty if there is none.
  std::string_view header(std::string_view name) const;
};

struct TlsSettings {
  std::string ca_file;  // PEM; empty: the system's authorities
};

struct HttpTimeouts {
  std::chrono::milliseconds connect{10'000};
  std::chrono::milliseconds idle{30'000};  // nothing sent or received for so long
};

struct ExchangeOptions {
  std::uint64_t max_body_bytes = std::uint64_t{1} << 20;
  SteadyTime until = SteadyTime::max();
  // The answer may take until then once the request is sent: its time to compute is not idle time.
  bool answer_takes_long = false;
  // Called some times a second with the bytes of the body that were sent; what it throws stops the
  // exchange and closes the connection.
  std::function<void(std::uint64_t sent)> alive;
};

// The connection could not be made, or broke before the answer was whole.
struct ConnectionFailure : Error {
  ConnectionFailure(const std::string& message, const std::string& where, bool request_was_sent)
      : Error(ErrorCode::server_refused, message, where), request_was_sent(request_was_sent) {}
  bool request_was_sent;  // some bytes of it at least
};

class HttpConnection {
 public:
  // loopback_only: addresses that a name resolves to are refused unless they are this machine's.
  HttpConnection(Url url, const TlsSettings& tls, const HttpTimeouts& timeouts,
                 bool loopback_only = false);
  ~HttpConnection();

  // Connects first where there is no open connection. An answer with any status is an answer.
  // Errors: ConnectionFailure; deadline_exceeded; server_refused (a certificate, an answer that is
  // not HTTP or has more bytes than the limit); file_unreadable (ca_file).
  HttpAnswer exchange(const RemoteRequest& request, const ExchangeOptions& options);

  // Of all exchanges, TLS not counted.
  std::uint64_t bytes_sent() const;
  std::uint64_t bytes_received() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace torusml
