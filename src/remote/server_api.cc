#include "remote/server_api.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <thread>

#include "remote/server_error.h"

namespace torusml {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t kMostIdleConnections = 8;
constexpr std::uint64_t kMostHalfBytes = std::uint64_t{64} << 20;
constexpr std::uint64_t kMostText = std::uint64_t{1} << 20;
constexpr std::chrono::milliseconds kHeartbeat{50};

std::string model_path(const std::string& model, const std::string& version) {
  std::string path = "/v2/models/" + escape_path(model);
  if (!version.empty()) path += "/versions/" + escape_path(version);
  return path;
}

std::string key_path(const std::string& id) { return "/v2/keys/" + escape_path(id); }
std::string job_path(const std::string& id) { return "/v2/jobs/" + escape_path(id); }

std::optional<std::uint64_t> number_in(std::string_view text) {
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (text.empty() || error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return number;
}

// The server's word that it did not begin, or that of something before it that says when to come.
bool is_busy(const HttpAnswer& answer) { return answer.status == 429 || answer.status == 503; }

// Of a proxy that did not reach the server, or of a full disk.
bool is_passing(const HttpAnswer& answer) {
  return is_busy(answer) || answer.status == 502 || answer.status == 504 || answer.status == 507;
}

void check_token_goes(const Url& url, const RemoteSettings& settings) {
  if (settings.token.empty() || url.is_secure || settings.allow_plain_http) return;
  if (is_loopback(url.host)) return;
  throw Error(ErrorCode::invalid_argument, "a token over http can be read by everybody on the way",
              url.text(), "https, or allow_plain_http where the way is protected otherwise");
}

std::chrono::milliseconds milliseconds(double seconds, const char* name) {
  if (!(seconds > 0 && seconds < 1e7))
    throw Error(ErrorCode::invalid_argument, fmt::format("{} is {}", name, seconds), name,
                "seconds, more than 0");
  return std::chrono::milliseconds(static_cast<std::int64_t>(seconds * 1000) + 1);
}

}  // namespace

ServerApi::ServerApi(const std::string& url, const RemoteSettings& settings)
    : url_(parse_url(url)),
      tls_{settings.ca_file},
      timeouts_{milliseconds(settings.connect_timeout_s, "connect_timeout_s"),
                milliseconds(settings.idle_timeout_s, "idle_timeout_s")},
      token_(settings.token.size()),
      deadline_s_(settings.deadline_s),
      patience_s_(settings.patience_s) {
  check_token_goes(url_, settings);
  std::ranges::copy(settings.token, token_.data());
  loopback_only_ = !settings.token.empty() && !url_.is_secure && !settings.allow_plain_http;
  if (deadline_s_ != 0) milliseconds(deadline_s_, "deadline_s");
  if (!(patience_s_ >= 0))
    throw Error(ErrorCode::invalid_argument, fmt::format("patience_s is {}", patience_s_));
  idle_.push_back(take_connection());  // its certificates are read now
}

CallContext ServerApi::begin_call(std::function<void(std::uint64_t)> alive) const {
  CallContext call{SteadyTime::max(), std::move(alive)};
  if (deadline_s_ > 0) call.until = Clock::now() + milliseconds(deadline_s_, "deadline_s");
  return call;
}

std::unique_ptr<HttpConnection> ServerApi::take_connection() const {
  {
    const std::lock_guard lock(mutex_);
    if (!idle_.empty()) {
      std::unique_ptr<HttpConnection> connection = std::move(idle_.back());
      idle_.pop_back();
      return connection;
    }
  }
  return std::make_unique<HttpConnection>(url_, tls_, timeouts_, loopback_only_);
}

HttpAnswer ServerApi::once(const Request& request, const CallContext& context) const {
  std::unique_ptr<HttpConnection> connection = take_connection();
  const std::uint64_t sent = connection->bytes_sent(), received = connection->bytes_received();
  const auto count = [&] {
    counts_.requests += 1;
    counts_.sent_bytes += connection->bytes_sent() - sent;
    counts_.received_bytes += connection->bytes_received() - received;
  };
  RemoteRequest http = request.http;
  http.token = {token_.data(), token_.size()};
  try {
    HttpAnswer answer = connection->exchange(
        http, {request.max_body_bytes, context.until, request.takes_long, context.alive});
    const std::lock_guard lock(mutex_);
    count();
    has_answered_ = true;
    if (idle_.size() < kMostIdleConnections) idle_.push_back(std::move(connection));
    return answer;
  } catch (...) {
    const std::lock_guard lock(mutex_);
    count();
    throw;
  }
}

void ServerApi::sleep(double seconds, const CallContext& context) const {
  const Clock::time_point end = Clock::now() + std::chrono::duration_cast<Clock::duration>(
                                                   std::chrono::duration<double>(seconds));
  for (;;) {
    if (context.alive) context.alive(0);
    const Clock::time_point now = Clock::now();
    if (now >= context.until)
      throw Error(ErrorCode::deadline_exceeded, "the time that was given is over", where());
    if (now >= end) return;
    std::this_thread::sleep_for(std::min<Clock::duration>(kHeartbeat, end - now));
  }
}

void ServerApi::wait_or_throw(Backoff& backoff, std::optional<double> asked_s, const Error& failure,
                              const CallContext& context) const {
  const std::optional<double> wait = backoff.next(asked_s);
  if (!wait) throw failure;
  {
    const std::lock_guard lock(mutex_);
    counts_.repeats += 1;
  }
  sleep(*wait, context);
}

HttpAnswer ServerApi::call(const Request& request, const CallContext& context) const {
  Backoff backoff(patience_s_);
  for (;;) {
    try {
      HttpAnswer answer = once(request, context);
      if (!is_passing(answer)) return answer;
      const Error failure = error_of(answer, where());
      // Of a request that must not run twice, a proxy's word is not enough.
      const bool did_not_begin = is_busy(answer) && (failure.code() == ErrorCode::server_busy ||
                                                     failure.code() == ErrorCode::rate_limited);
      if (request.repeat == Repeat::if_not_begun && !did_not_begin) return answer;
      wait_or_throw(backoff, retry_after_s(answer), failure, context);
    } catch (const ConnectionFailure& failure) {
      const bool first_contact = [&] {
        const std::lock_guard lock(mutex_);
        return !has_answered_;
      }();
      const bool may_repeat = request.repeat == Repeat::always || !failure.request_was_sent;
      if (first_contact || !may_repeat) throw;
      wait_or_throw(backoff, {}, failure, context);
    }
  }
}

std::string ServerApi::client_half(const std::string& model, const std::string& version,
                                   const CallContext& context) const {
  Request request{.http = {.target = model_path(model, version) + "/client"},
                  .max_body_bytes = kMostHalfBytes};
  HttpAnswer answer = call(request, context);
  if (answer.status != 200) throw error_of(answer, where());
  return std::move(answer.body);
}

std::string ServerApi::metadata(const std::string& model, const std::string& version,
                                const CallContext& context) const {
  const HttpAnswer answer = call({.http = {.target = model_path(model, version)}}, context);
  if (answer.status != 200) throw error_of(answer, where());
  return json_object(answer, where()).dump();
}

std::optional<RemoteKeyState> ServerApi::key_state(const std::string& id,
                                                   const CallContext& context) const {
  const HttpAnswer answer = call({.http = {.method = "HEAD", .target = key_path(id)}}, context);
  if (answer.status == 404) return std::nullopt;
  if (answer.status == 401)
    throw Error(ErrorCode::unauthorized, "the server does not take this token", where());
  const auto offset = number_in(answer.header("Upload-Offset"));
  const auto length = number_in(answer.header("Upload-Length"));
  if (answer.status != 200 || !offset || !length || *offset > *length)
    throw Error(ErrorCode::server_refused,
                fmt::format("status {} and no state of a key", answer.status), where());
  return RemoteKeyState{*offset, *length};
}

RemoteKeyState ServerApi::put_key(const std::string& id, const ByteSource& file,
                                  std::uint64_t offset, std::uint64_t bytes,
                                  const CallContext& context) const {
  const std::uint64_t total = file.size();
  bytes = std::min(bytes, total - offset);
  Request request{.http = {.method = "PUT",
                           .target = key_path(id),
                           .headers = {{"Content-Type", "application/octet-stream"}},
                           .body = &file,
                           .body_offset = offset,
                           .body_bytes = bytes},
                  .takes_long = true};  // its hash is checked, and it goes to disk
  if (bytes != total)
    request.http.headers.push_back(
        {"Content-Range", fmt::format("bytes {}-{}/{}", offset, offset + bytes - 1, total)});
  CallContext counted = context;
  std::uint64_t sent = 0;
  counted.alive = [&](std::uint64_t now) {
    sent = now;
    if (context.alive) context.alive(offset + now);
  };
  const auto count = [&](std::uint64_t now) {
    const std::lock_guard lock(mutex_);
    counts_.key_bytes += now;
  };
  HttpAnswer answer;
  try {
    answer = once(request, counted);
    count(bytes);
  } catch (...) {
    count(sent);
    throw;
  }
  if (answer.status == 200 || answer.status == 201) return {total, total};
  const auto reached = number_in(answer.header("Upload-Offset"));
  // 202: a part is there; 409: elsewhere than this one, which the next one makes good.
  if ((answer.status == 202 || answer.status == 409) && reached && *reached <= total)
    return {*reached, total};
  if (answer.status == 202) return {offset + bytes, total};
  throw error_of(answer, where());
}

bool ServerApi::delete_key(const std::string& id, const CallContext& context) const {
  const HttpAnswer answer = call({.http = {.method = "DELETE", .target = key_path(id)}}, context);
  if (answer.status == 404) return false;
  if (answer.status != 204) throw error_of(answer, where());
  return true;
}

ServerApi::Request ServerApi::inference(const std::string& model, const std::string& version,
                                        const ByteSource& body, std::size_t header_bytes) const {
  return {.http = {.method = "POST",
                   .target = model_path(model, version) + "/infer",
                   .headers = {{"Content-Type", "application/octet-stream"},
                               {"Inference-Header-Content-Length", std::to_string(header_bytes)}},
                   .body = &body,
                   .body_bytes = body.size()}};
}

std::string ServerApi::infer(const std::string& model, const std::string& version,
                             const InferenceBody& body, std::uint64_t most,
                             const CallContext& context) const {
  const MemorySource source(body.bytes, "request");
  Request request = inference(model, version, source, body.header_bytes);
  request.repeat = Repeat::if_not_begun;
  request.takes_long = true;
  request.max_body_bytes = most + kMostText;
  const HttpAnswer answer = call(request, context);
  if (answer.status != 200) throw error_of(answer, where());
  return std::string(inference_result(answer, where()));
}

std::string ServerApi::submit(const std::string& model, const std::string& version,
                              const InferenceBody& body, const std::string& idempotency_key,
                              const CallContext& context) const {
  const MemorySource source(body.bytes, "request");
  Request request = inference(model, version, source, body.header_bytes);
  request.http.headers.push_back({"Prefer", "respond-async"});
  request.http.headers.push_back({"Idempotency-Key", idempotency_key});
  const HttpAnswer answer = call(request, context);
  if (answer.status != 202) throw error_of(answer, where());
  std::string_view location = answer.header("Location");
  const std::size_t begin = location.rfind("/v2/jobs/");
  const std::string id(begin == location.npos ? "" : location.substr(begin + 9));
  const bool is_id =
      !id.empty() && id.size() <= 128 &&
      std::ranges::all_of(id, [](unsigned char c) { return std::isalnum(c) || c == '-'; });
  if (!is_id)
    throw Error(ErrorCode::server_refused, "status 202 and no job in its Location", where());
  return id;
}

RemoteJobState ServerApi::job(const std::string& id, const CallContext& context) const {
  const HttpAnswer answer = call({.http = {.target = job_path(id)}}, context);
  if (answer.status != 200) throw error_of(answer, where());
  const nlohmann::json json = json_object(answer, where());
  RemoteJobState job;
  try {
    job.state = json.at("state").get<std::string>();
    job.done = json.value("done", std::uint64_t{0});
    job.total = json.value("total", std::uint64_t{0});
  } catch (const nlohmann::json::exception&) {
    throw Error(ErrorCode::server_refused, "the job has no state", where());
  }
  if (json.contains("error")) job.error = error_from_json(json["error"], where());
  return job;
}

std::string ServerApi::job_result(const std::string& id, std::uint64_t most,
                                  const CallContext& context) const {
  const HttpAnswer answer = call(
      {.http = {.target = job_path(id) + "/result"}, .max_body_bytes = most + kMostText}, context);
  if (answer.status != 200) throw error_of(answer, where());
  return std::string(inference_result(answer, where()));
}

bool ServerApi::delete_job(const std::string& id, const CallContext& context) const {
  const HttpAnswer answer = call({.http = {.method = "DELETE", .target = job_path(id)}}, context);
  if (answer.status == 404) return false;
  if (answer.status != 204) throw error_of(answer, where());
  return true;
}

TransferCounts ServerApi::counts() const {
  const std::lock_guard lock(mutex_);
  return counts_;
}

}  // namespace torusml
