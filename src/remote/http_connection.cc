#include "remote/http_connection.h"

#include <fmt/format.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <sys/socket.h>

#include <algorithm>
#include <boost/asio/connect.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <boost/beast/ssl.hpp>
#include <cerrno>

#include "base/wiped.h"

namespace torusml {
namespace {

namespace asio = boost::asio;
namespace ssl = boost::asio::ssl;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using tcp = asio::ip::tcp;
using boost::system::error_code;
using Clock = std::chrono::steady_clock;
using SecureStream = ssl::stream<tcp::socket>;

constexpr std::chrono::milliseconds kHeartbeat{50};
constexpr std::size_t kSliceBytes = std::size_t{256} << 10;
constexpr std::uint32_t kMostHeaderBytes = 64 << 10;
// A server that answers early and closes: for so long its answer may still be on the way.
constexpr std::chrono::milliseconds kLastWords{1000};

void check_text(std::string_view text) {
  const auto is_control = [](unsigned char c) { return c < 0x20 || c == 0x7f; };
  if (std::ranges::any_of(text, is_control))
    throw Error(ErrorCode::invalid_argument, "a request's header has control characters", "header");
}

// With the token in it: wiped by its owner.
std::string head_of(const RemoteRequest& request, const Url& url) {
  check_text(request.target);
  check_text(request.token);
  std::string head = fmt::format("{} {}{} HTTP/1.1\r\nHost: {}\r\nUser-Agent: torusml\r\n",
                                 request.method, url.path, request.target, url.authority());
  head.reserve(head.size() + request.token.size() + 1024);  // never copied with the token in it
  for (const HttpHeader& header : request.headers) {
    check_text(header.value);
    head += fmt::format("{}: {}\r\n", header.name, header.value);
  }
  if (request.body != nullptr || request.method == "POST" || request.method == "PUT")
    head += fmt::format("Content-Length: {}\r\n", request.body_bytes);
  if (!request.token.empty())
    head.append("Authorization: Bearer ").append(request.token).append("\r\n");
  return head.append("\r\n");
}

// What both sides of one exchange do, by callbacks that the connection's loop runs: the answer is
// read from the beginning, so that a server may answer before it has read the whole request.
template <class Stream>
class Exchange {
 public:
  Exchange(Stream& stream, beast::flat_buffer& buffer, const RemoteRequest& request,
           std::uint64_t max_body_bytes)
      : stream_(stream), buffer_(buffer), request_(request) {
    parser_.header_limit(kMostHeaderBytes);
    parser_.body_limit(max_body_bytes);
    parser_.skip(request.method == "HEAD");
  }

  void start(std::string_view head) {
    read();
    writing_ = true;
    asio::async_write(stream_, asio::buffer(head.data(), head.size()),
                      [this](error_code error, std::size_t bytes) {
                        head_sent_ = bytes;
                        after_write(error, 0);
                      });
  }

  bool is_done() const { return read_done_; }
  bool is_writing() const { return writing_; }
  bool has_pending() const { return writing_ || !read_done_; }
  error_code read_error() const { return read_error_; }
  error_code write_error() const { return write_error_; }
  bool answered_early() const { return answered_early_; }
  std::uint64_t sent() const { return sent_; }
  std::uint64_t head_sent() const { return head_sent_; }
  std::uint64_t received() const { return received_; }
  Clock::time_point last_activity() const { return last_activity_; }
  bool header_is_there() const { return parser_.is_header_done(); }
  http::response_parser<http::string_body>& parser() { return parser_; }

 private:
  void after_write(error_code error, std::uint64_t bytes) {
    writing_ = false;
    sent_ += bytes;
    last_activity_ = Clock::now();
    if (error) {
      write_error_ = error;  // the answer may be there all the same: the reader decides
    } else if (!read_done_ && !answered_early_) {
      write_slice();
    }
  }

  void write_slice() {
    const std::uint64_t left = request_.body_bytes - sent_;
    if (left == 0) {
      request_sent_ = true;
      return;
    }
    slice_.resize(static_cast<std::size_t>(std::min<std::uint64_t>(left, kSliceBytes)));
    request_.body->read(request_.body_offset + sent_, slice_);
    writing_ = true;
    asio::async_write(stream_, asio::buffer(slice_),
                      [this](error_code error, std::size_t bytes) { after_write(error, bytes); });
  }

  void read() {
    http::async_read_some(stream_, buffer_, parser_, [this](error_code error, std::size_t bytes) {
      received_ += bytes;
      last_activity_ = Clock::now();
      if (parser_.is_header_done() && !request_sent_) answered_early_ = true;
      if (error || parser_.is_done()) {
        read_error_ = parser_.is_done() ? error_code{} : error;
        read_done_ = true;
      } else {
        read();
      }
    });
  }

  Stream& stream_;
  beast::flat_buffer& buffer_;
  const RemoteRequest& request_;
  http::response_parser<http::string_body> parser_;
  std::vector<std::uint8_t> slice_;
  std::uint64_t sent_ = 0, head_sent_ = 0, received_ = 0;
  Clock::time_point last_activity_ = Clock::now();
  error_code read_error_, write_error_;
  bool writing_ = false, request_sent_ = false, read_done_ = false, answered_early_ = false;
};

HttpAnswer take(http::response<http::string_body>&& response) {
  HttpAnswer answer;
  answer.status = static_cast<int>(response.result_int());
  for (const auto& field : response) {
    answer.headers.push_back({std::string(field.name_string()), std::string(field.value())});
  }
  answer.body = std::move(response.body());
  return answer;
}

bool same_name(std::string_view a, std::string_view b) {
  const auto lower = [](unsigned char c) { return c >= 'A' && c <= 'Z' ? c + 32 : c; };
  return std::ranges::equal(a, b, {}, lower, lower);
}

}  // namespace

std::string_view HttpAnswer::header(std::string_view name) const {
  for (const HttpHeader& header : headers)
    if (same_name(header.name, name)) return header.value;
  return {};
}

struct HttpConnection::State {
  Url url;
  HttpTimeouts timeouts;
  bool loopback_only;
  asio::io_context io{1};
  ssl::context tls{ssl::context::tls_client};
  std::unique_ptr<tcp::socket> plain;
  std::unique_ptr<SecureStream> secure;
  beast::flat_buffer buffer;
  bool is_open = false;
  std::uint64_t sent = 0, received = 0;

  tcp::socket& socket() { return secure ? secure->next_layer() : *plain; }
  std::string where() const { return url.text(); }

  void prepare_tls(const TlsSettings& settings) {
    tls.set_options(ssl::context::default_workarounds | ssl::context::no_sslv2 |
                    ssl::context::no_sslv3 | ssl::context::no_tlsv1 | ssl::context::no_tlsv1_1);
    tls.set_verify_mode(ssl::verify_peer);
    error_code error;
    if (settings.ca_file.empty()) {
      tls.set_default_verify_paths(error);
    } else {
      tls.load_verify_file(settings.ca_file, error);
    }
    if (error) {
      ERR_clear_error();
      throw Error(ErrorCode::file_unreadable, "there are no certificates of authorities in it",
                  fmt::format("file '{}'", settings.ca_file), "a file of certificates in PEM");
    }
  }

  void close() {
    if (!plain && !secure) return;
    error_code ignored;
    socket().close(ignored);
    is_open = false;
  }

  // Runs callbacks until `done`, and until nothing refers to the caller's frame any more when it
  // is left by an exception. limit: how long nothing may happen, none: as long as it takes.
  void run(const std::function<bool()>& done, const std::function<bool()>& pending,
           const std::function<std::optional<Clock::time_point>()>& silent_until,
           const std::function<void()>& alive, SteadyTime until, bool& was_sent) {
    try {
      Clock::time_point next_beat = Clock::now() + kHeartbeat;
      while (!done()) {
        io.restart();
        io.run_one_for(kHeartbeat);
        const Clock::time_point now = Clock::now();
        if (alive && now >= next_beat) {
          next_beat = now + kHeartbeat;
          alive();
        }
        if (done()) break;
        if (now > until)
          throw Error(ErrorCode::deadline_exceeded, "the time that was given is over", where());
        const std::optional<Clock::time_point> limit = silent_until();
        if (limit && now > *limit)
          throw ConnectionFailure("the server has been silent for too long", where(), was_sent);
      }
    } catch (...) {
      drain(pending);
      throw;
    }
  }

  void drain(const std::function<bool()>& pending) {
    close();
    while (pending()) {
      io.restart();
      if (io.run_one() == 0) break;
    }
  }

  template <class Start>
  void step(const char* what, const ExchangeOptions& options, Start start) {
    bool done = false, was_sent = false;
    error_code error;
    start([&](error_code found, auto&&...) {
      error = found;
      done = true;
    });
    const Clock::time_point limit = Clock::now() + timeouts.connect;
    const std::function<void()> alive = [&] {
      if (options.alive) options.alive(0);
    };
    run([&] { return done; }, [&] { return !done; },
        [&] { return std::optional<Clock::time_point>(limit); }, alive, options.until, was_sent);
    if (error)
      throw ConnectionFailure(fmt::format("{}: {}", what, error.message()), where(), false);
  }

  std::vector<tcp::endpoint> resolve(const ExchangeOptions& options) {
    tcp::resolver resolver(io);
    std::vector<tcp::endpoint> endpoints;
    step("its name has no address", options, [&](auto done) {
      resolver.async_resolve(
          url.host, url.port,
          [&, done](error_code error, tcp::resolver::results_type found) mutable {
            for (const auto& entry : found) endpoints.push_back(entry.endpoint());
            done(error);
          });
    });
    if (loopback_only)
      std::erase_if(endpoints, [](const auto& e) { return !e.address().is_loopback(); });
    if (endpoints.empty())
      throw ConnectionFailure("its name has no address of this machine", where(), false);
    return endpoints;
  }

  void connect(const ExchangeOptions& options) {
    buffer.clear();
    const std::vector<tcp::endpoint> endpoints = resolve(options);
    plain.reset();
    secure.reset();
    if (url.is_secure) {
      secure = std::make_unique<SecureStream>(io, tls);
    } else {
      plain = std::make_unique<tcp::socket>(io);
    }
    step("cannot connect", options, [&](auto done) {
      asio::async_connect(socket(), endpoints,
                          [done](error_code error, const tcp::endpoint&) mutable { done(error); });
    });
    socket().set_option(tcp::no_delay(true));
    if (url.is_secure) shake_hands(options);
    is_open = true;
  }

  void expect_host() {
    SSL* const session = secure->native_handle();
    X509_VERIFY_PARAM* const expected = SSL_get0_param(session);
    X509_VERIFY_PARAM_set_hostflags(expected, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    const bool is_ip = is_address(url.host);
    const int set = is_ip ? X509_VERIFY_PARAM_set1_ip_asc(expected, url.host.c_str())
                          : X509_VERIFY_PARAM_set1_host(expected, url.host.c_str(), 0);
    if (set != 1 || (!is_ip && SSL_set_tlsext_host_name(session, url.host.c_str()) != 1))
      throw Error(ErrorCode::internal, "OpenSSL takes no host's name", where());
  }

  void shake_hands(const ExchangeOptions& options) {
    expect_host();
    try {
      step("no TLS connection", options, [&](auto done) {
        secure->async_handshake(ssl::stream_base::client,
                                [done](error_code error) mutable { done(error); });
      });
    } catch (const ConnectionFailure&) {
      const long verdict = SSL_get_verify_result(secure->native_handle());
      close();
      if (verdict == X509_V_OK) throw;
      throw Error(ErrorCode::server_refused,
                  fmt::format("its certificate is not accepted: {}",
                              X509_verify_cert_error_string(verdict)),
                  where(), "the file of the authority that signed it (ca_file, --ca-file)");
    }
  }

  // False when the server closed a connection that waited, or sent what nobody asked for.
  bool is_still_good() {
    if (!is_open) return false;
    char byte = 0;
    const ssize_t got = ::recv(socket().native_handle(), &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK) && buffer.size() == 0) return true;
    close();
    return false;
  }

  [[noreturn]] void fail(error_code read, error_code write, const ExchangeOptions& options) {
    if (read == http::error::body_limit || read == http::error::header_limit) {
      throw Error(ErrorCode::server_refused,
                  fmt::format("its answer has more than {} bytes", options.max_body_bytes),
                  where());
    }
    const bool is_cut = read == http::error::end_of_stream || read == http::error::partial_message;
    if (!is_cut && read.category() == make_error_code(http::error::bad_version).category())
      throw Error(ErrorCode::server_refused,
                  fmt::format("its answer is not HTTP: {}", read.message()), where());
    const std::string reason = is_cut ? "closed by the server" : (write ? write : read).message();
    throw ConnectionFailure(fmt::format("the connection broke: {}", reason), where(), true);
  }

  template <class Stream>
  HttpAnswer exchange(Stream& stream, const RemoteRequest& request,
                      const ExchangeOptions& options) {
    const Wiped head{head_of(request, url)};
    Exchange<Stream> work(stream, buffer, request, options.max_body_bytes);
    const auto silent_until = [&]() -> std::optional<Clock::time_point> {
      if (work.write_error()) return work.last_activity() + kLastWords;
      const bool computes = !work.is_writing() && !work.header_is_there();
      if (computes && options.answer_takes_long) return std::nullopt;
      return work.last_activity() + timeouts.idle;
    };
    const std::function<void()> alive = [&] {
      if (options.alive) options.alive(work.sent());
    };
    bool was_sent = true;
    const auto pending = [&] { return work.has_pending(); };
    const auto count = [&] {
      sent += work.head_sent() + work.sent();
      received += work.received();
    };
    work.start(head.value);
    try {
      run([&] { return work.is_done(); }, pending, silent_until, alive, options.until, was_sent);
    } catch (...) {
      count();
      throw;
    }
    const bool keep = !work.read_error() && !work.write_error() && !work.answered_early() &&
                      !work.is_writing() && work.parser().keep_alive();
    if (!keep) drain(pending);
    count();
    if (work.read_error()) fail(work.read_error(), work.write_error(), options);
    return take(work.parser().release());
  }
};

HttpConnection::HttpConnection(Url url, const TlsSettings& tls, const HttpTimeouts& timeouts,
                               bool loopback_only)
    : state_(
          new State{.url = std::move(url), .timeouts = timeouts, .loopback_only = loopback_only}) {
  if (state_->url.is_secure) state_->prepare_tls(tls);
}

HttpConnection::~HttpConnection() { state_->close(); }

HttpAnswer HttpConnection::exchange(const RemoteRequest& request, const ExchangeOptions& options) {
  if (!state_->is_still_good()) state_->connect(options);
  if (state_->secure) return state_->exchange(*state_->secure, request, options);
  return state_->exchange(*state_->plain, request, options);
}

std::uint64_t HttpConnection::bytes_sent() const { return state_->sent; }
std::uint64_t HttpConnection::bytes_received() const { return state_->received; }

}  // namespace torusml
