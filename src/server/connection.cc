#include "server/connection.h"

#include <fmt/format.h>
#include <poll.h>

#include <algorithm>
#include <array>
#include <boost/asio/post.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/status.hpp>
#include <cmath>
#include <cstring>
#include <exception>
#include <new>
#include <optional>
#include <vector>

#include "server/http_parser.h"

namespace torusml {
namespace {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using asio::awaitable;
using asio::ip::tcp;
using boost::system::error_code;
using Clock = std::chrono::steady_clock;
using Duration = Clock::duration;

constexpr std::size_t kReadBytes = 65536;
constexpr std::size_t kUploadBytes = std::size_t{1} << 20;
constexpr std::chrono::milliseconds kClientCheck{200};
constexpr std::chrono::seconds kLinger{2};
constexpr int kClientGone = 499;  // in log and metrics; nobody reads it

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// Cancels what a socket does when the time is up. Lives on the socket's strand.
class Timeout {
 public:
  explicit Timeout(tcp::socket& socket)
      : state_(std::make_shared<State>(State{asio::steady_timer(socket.get_executor()), &socket})) {
  }
  ~Timeout() {
    state_->socket = nullptr;
    state_->timer.cancel();
  }
  void start(Duration time) {
    const std::uint64_t round = ++state_->round;
    state_->is_over = false;
    state_->timer.expires_after(time);
    state_->timer.async_wait([state = state_, round](const error_code& error) {
      if (error || state->round != round || state->socket == nullptr) return;
      state->is_over = true;
      error_code ignored;
      state->socket->cancel(ignored);
    });
  }
  void stop() {
    ++state_->round;
    state_->timer.cancel();
  }
  bool is_over() const { return state_->is_over; }

 private:
  struct State {
    asio::steady_timer timer;
    tcp::socket* socket;
    std::uint64_t round = 0;
    bool is_over = false;
  };
  std::shared_ptr<State> state_;
};

// Runs action() in the pool and comes back; throws what it throws.
template <class Action>
awaitable<void> in_pool(asio::thread_pool& pool, Action action) {
  std::exception_ptr error;
  const auto initiate = [&](auto handler) {
    asio::post(pool, [&action, &error, handler = std::move(handler)]() mutable {
      try {
        action();
      } catch (...) {
        error = std::current_exception();
      }
      const auto executor = asio::get_associated_executor(handler);
      asio::post(executor, std::move(handler));
    });
  };
  co_await asio::async_initiate<const asio::use_awaitable_t<>&, void()>(initiate,
                                                                        asio::use_awaitable);
  if (error) std::rethrow_exception(error);
}

// What a run's end and the waiting connection share.
struct Waiter {
  explicit Waiter(const asio::any_io_executor& executor) : timer(executor) {}
  asio::steady_timer timer;
  std::optional<WorkResult> result;
};

struct ConnectionLost {};

HttpError too_slow(const char* what) {
  return {408, Error(ErrorCode::deadline_exceeded,
                     fmt::format("the client took too long to send {}", what))};
}

class Connection {
 public:
  Connection(tcp::socket socket, asio::ssl::context* tls, ConnectionContext& context)
      : context_(context),
        settings_(context.settings),
        socket_(std::move(socket)),
        timeout_(socket_) {
    if (tls != nullptr) tls_.emplace(socket_, *tls);
    error_code error;
    socket_.set_option(tcp::no_delay(true), error);
    const tcp::endpoint peer = socket_.remote_endpoint(error);
    is_from_loopback_ = !error && peer.address().is_loopback();
  }

  awaitable<void> run() {
    if (tls_ && !co_await shake_hands()) co_return;
    for (bool is_first = true; co_await wait_for_request(is_first); is_first = false) {
      ++context_.active;
      const Active active{context_.active};
      co_await serve_request();
      if (!keeps_open_) break;
    }
    co_await close();
  }

 private:
  struct Active {
    std::atomic<std::size_t>& count;
    ~Active() { --count; }
  };

  awaitable<bool> shake_hands() {
    error_code error;
    timeout_.start(settings_.header_timeout);
    co_await tls_->async_handshake(asio::ssl::stream_base::server,
                                   asio::redirect_error(asio::use_awaitable, error));
    timeout_.stop();
    co_return !error;
  }

  // Some bytes; 0 when the other side is gone or the time is up.
  awaitable<std::size_t> read_some(asio::mutable_buffer buffer) {
    if (timeout_.is_over()) co_return 0;
    error_code error;
    std::size_t bytes = 0;
    if (tls_)
      bytes =
          co_await tls_->async_read_some(buffer, asio::redirect_error(asio::use_awaitable, error));
    else
      bytes = co_await socket_.async_read_some(buffer,
                                               asio::redirect_error(asio::use_awaitable, error));
    co_return error ? 0 : bytes;
  }

  awaitable<void> write(std::string_view head, std::string_view body) {
    const std::array buffers = {asio::buffer(head.data(), head.size()),
                                asio::buffer(body.data(), body.size())};
    error_code error;
    timeout_.start(time_for(head.size() + body.size()));
    if (tls_)
      co_await asio::async_write(*tls_, buffers, asio::redirect_error(asio::use_awaitable, error));
    else
      co_await asio::async_write(socket_, buffers,
                                 asio::redirect_error(asio::use_awaitable, error));
    timeout_.stop();
    if (error) throw ConnectionLost();
  }

  Duration time_for(std::uint64_t bytes) const {
    return settings_.body_timeout + Seconds(bytes / settings_.least_bytes_per_second);
  }

  // False when no more comes.
  awaitable<bool> wait_for_request(bool is_first) {
    if (buffer_.size() > 0) co_return true;
    timeout_.start(is_first ? settings_.header_timeout : settings_.idle_timeout);
    const std::size_t bytes = co_await read_some(buffer_.prepare(kReadBytes));
    timeout_.stop();
    buffer_.commit(bytes);
    co_return bytes > 0;
  }

  awaitable<void> read_header(HttpRequest& request) {
    HeaderParser parser(settings_.header_bytes);
    timeout_.start(settings_.header_timeout);
    while (true) {
      const asio::const_buffer received = buffer_.data();
      buffer_.consume(parser.put({static_cast<const char*>(received.data()), received.size()}));
      if (parser.is_done()) break;
      const std::size_t bytes = co_await read_some(buffer_.prepare(kReadBytes));
      if (bytes == 0 && timeout_.is_over()) throw too_slow("the header");
      if (bytes == 0) throw ConnectionLost();
      buffer_.commit(bytes);
    }
    timeout_.stop();
    request = parser.request();
    request.is_from_loopback = is_from_loopback_;
    request.id = request_id(request.header("X-Request-Id"));
    keeps_open_ = parser.keeps_open() && !request.is_chunked;
    body_left_ = request.content_length.value_or(0);
    expects_continue_ = request.header("Expect") == "100-continue";
  }

  // All of `target` from the body.
  awaitable<void> read_body(std::span<char> target) {
    while (!target.empty()) {
      std::size_t bytes = std::min(buffer_.size(), target.size());
      if (bytes > 0) {
        std::memcpy(target.data(), buffer_.data().data(), bytes);
        buffer_.consume(bytes);
      } else {
        bytes = co_await read_some(asio::buffer(target.data(), target.size()));
        if (bytes == 0 && timeout_.is_over()) throw too_slow("the body");
        if (bytes == 0) throw ConnectionLost();
      }
      target = target.subspan(bytes);
      body_left_ -= bytes;
      bytes_in_ += bytes;
    }
  }

  awaitable<void> begin_body() {
    if (expects_continue_) co_await write("HTTP/1.1 100 Continue\r\n\r\n", "");
    expects_continue_ = false;
    timeout_.start(time_for(body_left_));
  }

  awaitable<HttpResponse> answer(const HttpRequest& request, Call& call) {
    co_await in_pool(context_.pool, [&] { context_.handlers.open(request, call); });
    if (call.route.endpoint == Endpoint::infer) co_return co_await infer(request, call);
    if (call.route.endpoint == Endpoint::key_put) co_return co_await upload(request, call);
    HttpResponse response;
    co_await in_pool(context_.pool, [&] { response = context_.handlers.answer(call); });
    co_return response;
  }

  awaitable<HttpResponse> upload(const HttpRequest& request, const Call& call) {
    std::optional<UploadTask> task;
    co_await in_pool(context_.pool,
                     [&] { task.emplace(context_.handlers.open_upload(call, request)); });
    std::exception_ptr error;
    try {
      co_await receive(*task, call.body_bytes);
    } catch (...) {
      error = std::current_exception();
    }
    HttpResponse response;
    co_await in_pool(context_.pool, [&] {
      if (!error) response = context_.handlers.finish(*task);
      task.reset();  // keeps what has come, which takes time
    });
    if (error) std::rethrow_exception(error);
    co_return response;
  }

  awaitable<void> receive(UploadTask& task, std::uint64_t bytes) {
    co_await begin_body();
    std::vector<char> block(std::min<std::uint64_t>(kUploadBytes, bytes));
    while (body_left_ > 0) {
      const std::span<char> part(block.data(), std::min<std::uint64_t>(block.size(), body_left_));
      co_await read_body(part);
      co_await in_pool(context_.pool, [&] {
        task.write({reinterpret_cast<const std::uint8_t*>(part.data()), part.size()});
      });
    }
    timeout_.stop();
  }

  awaitable<HttpResponse> infer(const HttpRequest& request, const Call& call) {
    const Clock::time_point read_start = Clock::now();
    co_await begin_body();
    std::string body(call.json_bytes, '\0');
    co_await read_body(body);
    std::optional<InferTask> task;
    co_await in_pool(context_.pool,
                     [&] { task.emplace(context_.handlers.open_infer(call, request, body)); });
    body.resize(task->bytes);
    co_await read_body(body);
    timeout_.stop();
    add_stage(Stage::read, seconds_since(read_start));
    const std::string id = task->header.id;
    const auto waiter = std::make_shared<Waiter>(socket_.get_executor());
    Started started;
    const Clock::time_point decode_start = Clock::now();
    co_await in_pool(context_.pool, [&] {
      started = context_.handlers.start(std::move(*task), body, tell(waiter));
      body = std::string();
    });
    add_stage(Stage::decode, seconds_since(decode_start));
    if (auto* response = std::get_if<HttpResponse>(&started)) co_return std::move(*response);
    co_await wait_for(*waiter, *std::get<std::shared_ptr<Work>>(started));
    for (const auto& [stage, seconds] : waiter->result->seconds) add_stage(stage, seconds);
    if (waiter->result->error) throw *waiter->result->error;
    co_return infer_response(id, call.model->name, call.model->version,
                             std::move(waiter->result->outputs));
  }

  // Hands a result to the connection's strand.
  std::function<void(WorkResult)> tell(const std::shared_ptr<Waiter>& waiter) {
    return [waiter, executor = socket_.get_executor()](WorkResult result) {
      asio::post(executor, [waiter, result = std::move(result)]() mutable {
        waiter->result = std::move(result);
        waiter->timer.cancel();
      });
    };
  }

  awaitable<void> wait_for(Waiter& waiter, Work& work) {
    bool is_gone = false;
    while (!waiter.result) {
      error_code ignored;
      waiter.timer.expires_after(kClientCheck);
      co_await waiter.timer.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
      if (waiter.result || is_gone || !is_client_gone()) continue;
      is_gone = true;
      context_.engine.cancel(work, Error(ErrorCode::cancelled, "the client went away"));
    }
    if (is_gone) throw ConnectionLost();
  }

  bool is_client_gone() {
    pollfd facts{socket_.native_handle(), POLLRDHUP, 0};
    return poll(&facts, 1, 0) > 0 && (facts.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
  }

  void add_stage(Stage stage, double seconds) {
    context_.metrics.add_stage(stage, seconds);
    stages_[kStageNames[static_cast<std::size_t>(stage)]] = round_to_ms(seconds);
  }

  static double round_to_ms(double seconds) { return std::round(seconds * 1e6) / 1e3; }

  // One request and its answer. Sets keeps_open_.
  awaitable<void> serve_request() {
    const Clock::time_point start = Clock::now();
    HttpRequest request;
    Call call;
    stages_ = nlohmann::ordered_json::object();
    keeps_open_ = expects_continue_ = false;
    bytes_in_ = body_left_ = 0;
    HttpResponse response;
    std::optional<Error> error;
    try {
      co_await read_header(request);
      response = co_await answer(request, call);
    } catch (const ConnectionLost&) {
      response.status = kClientGone;
    } catch (const Error& e) {
      error = e;
      request.id = request_id(request.id);
      response = error_response(e, request.id);
    } catch (const std::bad_alloc&) {
      error = Error(ErrorCode::memory_limit_exceeded, "the server is short of memory");
      response = error_response(busy(503, "the server is short of memory", 5), request.id);
    } catch (const std::exception& e) {
      error = Error(ErrorCode::internal, e.what());
      response = error_response(*error, request.id);
    }
    timeout_.stop();
    if (body_left_ > 0 || context_.handlers.is_draining()) keeps_open_ = false;
    if (response.status == kClientGone) {
      keeps_open_ = false;
    } else {
      const Clock::time_point write_start = Clock::now();
      const std::string head = head_of(response, request);
      const std::string_view body =
          request.method == "HEAD" ? std::string_view() : std::string_view(response.body);
      try {
        co_await write(head, body);
      } catch (const ConnectionLost&) {
        keeps_open_ = false;
      }
      if (!stages_.empty()) add_stage(Stage::write, seconds_since(write_start));
    }
    report(request, call, response, error, seconds_since(start));
  }

  std::string head_of(const HttpResponse& response, const HttpRequest& request) const {
    const bool has_body = response.status != 204;
    std::string head =
        fmt::format("HTTP/1.1 {} {}\r\nX-Request-Id: {}\r\nConnection: {}\r\n", response.status,
                    std::string(http::obsolete_reason(static_cast<http::status>(response.status))),
                    request.id, keeps_open_ ? "keep-alive" : "close");
    if (has_body) {
      head += fmt::format(
          "Content-Length: {}\r\n",
          request.method == "HEAD" && response.status == 200 ? 0 : response.body.size());
    }
    if (!response.body.empty()) head += fmt::format("Content-Type: {}\r\n", response.content_type);
    for (const auto& [name, value] : response.headers)
      head += fmt::format("{}: {}\r\n", name, value);
    return head + "\r\n";
  }

  void report(const HttpRequest& request, const Call& call, const HttpResponse& response,
              const std::optional<Error>& error, double seconds) {
    const EndpointInfo* info = call.route.info;
    const std::string route =
        info == nullptr ? "none" : fmt::format("{} {}", info->method, info->pattern);
    context_.metrics.count_request(route, response.status, seconds, bytes_in_,
                                   response.body.size());
    nlohmann::ordered_json fields = {
        {"request_id", request.id},         {"tenant", call.who.tenant},  {"route", route},
        {"status", response.status},        {"ms", round_to_ms(seconds)}, {"bytes_in", bytes_in_},
        {"bytes_out", response.body.size()}};
    if (call.model) fields["model"] = call.model->name;
    if (!stages_.empty()) fields["stages_ms"] = stages_;
    if (error) {
      context_.metrics.count_error(error_code_name(error->code()));
      fields["error"] = error->what();
    }
    context_.log.write(response.status == 500 ? "error" : "info", "request", fields);
  }

  // So that the other side can read the last answer though it has sent more than was read.
  awaitable<void> close() {
    error_code error;
    if (tls_) {
      timeout_.start(kLinger);
      co_await tls_->async_shutdown(asio::redirect_error(asio::use_awaitable, error));
      timeout_.stop();
    }
    socket_.shutdown(tcp::socket::shutdown_send, error);
    timeout_.start(kLinger);
    std::vector<char> unread(kReadBytes);
    while (true) {
      const std::size_t bytes = co_await socket_.async_read_some(
          asio::buffer(unread), asio::redirect_error(asio::use_awaitable, error));
      if (error || bytes == 0 || timeout_.is_over()) break;
    }
    timeout_.stop();
    socket_.close(error);
  }

  ConnectionContext& context_;
  const ServerSettings& settings_;
  tcp::socket socket_;
  std::optional<asio::ssl::stream<tcp::socket&>> tls_;
  Timeout timeout_;
  boost::beast::flat_buffer buffer_;
  bool is_from_loopback_ = false;
  // Of the request that is served:
  bool keeps_open_ = false, expects_continue_ = false;
  std::uint64_t body_left_ = 0, bytes_in_ = 0;
  nlohmann::ordered_json stages_;
};

struct Open {
  ConnectionContext& context;
  explicit Open(ConnectionContext& context) : context(context) {
    context.handlers.set_connections(++context.open);
  }
  ~Open() { context.handlers.set_connections(--context.open); }
};

}  // namespace

awaitable<void> serve_connection(tcp::socket socket, asio::ssl::context* tls,
                                 ConnectionContext& context) {
  const Open open(context);
  try {
    Connection connection(std::move(socket), tls, context);
    co_await connection.run();
  } catch (const std::exception& error) {
    context.log.write("error", "connection", {{"error", error.what()}});
  } catch (...) {
    context.log.write("error", "connection", {{"error", "unknown"}});
  }
}

awaitable<void> refuse_connection(tcp::socket socket, bool is_tls) {
  error_code error;
  const HttpResponse response =
      error_response(busy(503, "the server has as many connections as it takes", 5), "");
  const std::string text = fmt::format(
      "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nConnection: close\r\nContent-Type: "
      "application/json\r\nContent-Length: {}\r\n\r\n{}",
      response.body.size(), response.body);
  // It fits a socket's buffer: nobody waits for a slow client here.
  socket.non_blocking(true, error);
  if (!is_tls) socket.write_some(asio::buffer(text), error);
  socket.shutdown(tcp::socket::shutdown_send, error);
  Timeout timeout(socket);
  timeout.start(std::chrono::seconds(1));
  std::array<char, 4096> unread;
  while (!error && !timeout.is_over())
    co_await socket.async_read_some(asio::buffer(unread),
                                    asio::redirect_error(asio::use_awaitable, error));
}

}  // namespace torusml
