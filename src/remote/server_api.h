// The requests of docs/server.md, as functions: bytes and records, no keys and no quantizers.
//
//   ServerApi server("https://fhe.example.org", settings);
//   const CallContext call = server.begin_call(alive);     // its deadline starts here
//   std::optional<RemoteKeyState> key = server.key_state(id, call);
//   std::string results = server.infer("net", "", body, most, call);
//
// Requests that change nothing when they are repeated are repeated after lost connections and where
// the server is busy, with waits between, as long as patience lasts; the others only where the
// server surely did not begin (Repeat). The first contact is not repeated: a wrong address is told
// at once. Thread rule: const use is concurrent; each call takes an idle connection or makes one.
// Errors: the server's; server_refused; deadline_exceeded.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/memory.h"
#include "remote/backoff.h"
#include "remote/http_connection.h"
#include "remote/inference_body.h"
#include "torusml/remote.h"

namespace torusml {

struct CallContext {
  SteadyTime until = SteadyTime::max();
  std::function<void(std::uint64_t sent)> alive;
};

enum class Repeat {
  if_not_begun,  // no byte was sent, or the server says that it is too busy
  always,        // the same once or twice
};

struct RemoteKeyState {
  std::uint64_t offset = 0, length = 0;
  bool is_whole() const { return offset == length; }
};

struct RemoteJobState {
  std::string state;  // queued, running, done, failed, cancelled
  std::uint64_t done = 0, total = 0;
  std::optional<Error> error;  // of a failed one
  bool is_finished() const { return state == "done" || state == "failed" || state == "cancelled"; }
};

class ServerApi {
 public:
  // Nothing is sent yet. Errors: invalid_argument, file_unreadable.
  ServerApi(const std::string& url, const RemoteSettings& settings);

  CallContext begin_call(std::function<void(std::uint64_t)> alive = {}) const;
  std::string where() const { return url_.text(); }

  // Bytes of the client's half.
  std::string client_half(const std::string& model, const std::string& version,
                          const CallContext& call) const;
  std::string metadata(const std::string& model, const std::string& version,
                       const CallContext& call) const;

  std::optional<RemoteKeyState> key_state(const std::string& id, const CallContext& call) const;
  // Bytes from `offset` on, at most `bytes`. What the server has afterwards. Not repeated.
  RemoteKeyState put_key(const std::string& id, const ByteSource& file, std::uint64_t offset,
                         std::uint64_t bytes, const CallContext& call) const;
  bool delete_key(const std::string& id, const CallContext& call) const;

  // The file of encrypted outputs, of at most `most` bytes.
  std::string infer(const std::string& model, const std::string& version, const InferenceBody& body,
                    std::uint64_t most, const CallContext& call) const;
  std::string submit(const std::string& model, const std::string& version,
                     const InferenceBody& body, const std::string& idempotency_key,
                     const CallContext& call) const;
  RemoteJobState job(const std::string& id, const CallContext& call) const;
  std::string job_result(const std::string& id, std::uint64_t most, const CallContext& call) const;
  bool delete_job(const std::string& id, const CallContext& call) const;

  // Waits, with heartbeats. Error deadline_exceeded.
  void sleep(double seconds, const CallContext& call) const;
  double patience_s() const { return patience_s_; }
  TransferCounts counts() const;

 private:
  struct Request {
    RemoteRequest http;
    Repeat repeat = Repeat::always;
    std::uint64_t max_body_bytes = std::uint64_t{1} << 20;
    bool takes_long = false;
  };

  HttpAnswer call(const Request& request, const CallContext& context) const;
  HttpAnswer once(const Request& request, const CallContext& context) const;
  Request inference(const std::string& model, const std::string& version, const ByteSource& body,
                    std::size_t header_bytes) const;
  std::unique_ptr<HttpConnection> take_connection() const;
  void wait_or_throw(Backoff& backoff, std::optional<double> asked_s, const Error& failure,
                     const CallContext& context) const;

  Url url_;
  TlsSettings tls_;
  HttpTimeouts timeouts_;
  SecretBuffer<char> token_;
  bool loopback_only_ = false;
  double deadline_s_, patience_s_;
  mutable std::mutex mutex_;
  mutable std::vector<std::unique_ptr<HttpConnection>> idle_;
  mutable TransferCounts counts_;
  mutable bool has_answered_ = false;
};

}  // namespace torusml
