#include "server/http_server.h"

#include <fmt/format.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <cmath>
#include <condition_variable>
#include <csignal>
#include <optional>
#include <thread>

#include "server/connection.h"

namespace torusml {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;

constexpr int kNetworkThreads = 2;
constexpr std::size_t kHandlerThreads = 4;
constexpr std::chrono::milliseconds kDrainCheck{50};
constexpr Seconds kAnswersAfterDrain{2};
constexpr Seconds kCleanUp{60};

Error bad_address(const std::string& text) {
  return Error(ErrorCode::invalid_argument, fmt::format("'{}' is no address", text), "--listen",
               "127.0.0.1:8080, or [::1]:8080");
}

// "127.0.0.1:8080", "[::1]:8080", "localhost:8080".
tcp::endpoint parse_address(const std::string& text) {
  const std::size_t colon = text.rfind(':');
  if (colon == std::string::npos) throw bad_address(text);
  std::string host = text.substr(0, colon);
  if (host == "localhost") host = "127.0.0.1";
  if (host.size() > 2 && host.front() == '[' && host.back() == ']')
    host = host.substr(1, host.size() - 2);
  error_code error;
  const asio::ip::address address = asio::ip::make_address(host, error);
  const std::string port = text.substr(colon + 1);
  const bool is_number = !port.empty() && port.size() <= 5 &&
                         port.find_first_not_of("0123456789") == std::string::npos;
  if (error || !is_number || std::stoi(port) > 65535) throw bad_address(text);
  return {address, static_cast<std::uint16_t>(std::stoi(port))};
}

// Beyond this machine only encrypted, and only for those who have a token.
void check_is_safe(const ServerSettings& settings, const tcp::endpoint& address,
                   const Registry& registry) {
  if (settings.certificate.empty() != settings.private_key.empty()) {
    throw Error(ErrorCode::invalid_argument, "TLS takes a certificate and its private key",
                "--certificate, --private-key");
  }
  if (address.address().is_loopback() || settings.is_insecure) return;
  if (settings.certificate.empty()) {
    throw Error(ErrorCode::invalid_argument,
                "other machines would send tokens and read answers without TLS", "--listen",
                "--certificate and --private-key, or --insecure behind a proxy that does it");
  }
  if (!registry.has_tokens()) {
    throw Error(ErrorCode::invalid_argument, "other machines could use the server without a token",
                "--listen", "torusml token add, or --insecure");
  }
}

void check_limits(const ServerSettings& s) {
  const auto least = [](auto value, auto limit, const char* option) {
    if (value >= static_cast<decltype(value)>(limit)) return;
    throw Error(ErrorCode::invalid_argument, fmt::format("it must be {} at least", limit), option);
  };
  least(s.connections, 1, "--max-connections");
  least(s.queue, 1, "--queue");
  least(s.concurrent_runs, 1, "--runs");
  least(s.threads_per_run, 0, "--threads");
  least(s.samples_per_request, 1, "--max-samples");
  least(s.samples_per_batch, 1, "--batch-samples");
  least(s.header_bytes, 1024, "--max-header");
  least(s.least_bytes_per_second, 1, "--min-rate");
  least(std::isinf(s.tenant_rate) ? -1 : s.tenant_rate, 0, "--tenant-rate");
  least(s.tenant_burst, 1, "--tenant-burst");
}

std::unique_ptr<asio::ssl::context> make_tls(const ServerSettings& settings) {
  if (settings.certificate.empty()) return nullptr;
  auto tls = std::make_unique<asio::ssl::context>(asio::ssl::context::tls_server);
  tls->set_options(asio::ssl::context::default_workarounds | asio::ssl::context::no_compression);
  SSL_CTX_set_min_proto_version(tls->native_handle(), TLS1_2_VERSION);
  const auto use = [](const std::string& path, const error_code& error) {
    if (error)
      throw Error(ErrorCode::file_unreadable, error.message(), fmt::format("file '{}'", path));
  };
  error_code error;
  use(settings.certificate, tls->use_certificate_chain_file(settings.certificate, error));
  use(settings.private_key,
      tls->use_private_key_file(settings.private_key, asio::ssl::context::pem, error));
  if (SSL_CTX_check_private_key(tls->native_handle()) != 1) {
    throw Error(ErrorCode::invalid_argument, "the private key is not the certificate's",
                fmt::format("file '{}'", settings.private_key));
  }
  return tls;
}

// What belongs to Asio; its last member ends first.
struct Network {
  asio::io_context io{kNetworkThreads};
  asio::executor_work_guard<asio::io_context::executor_type> work{io.get_executor()};
  tcp::acceptor acceptor{io};
  asio::signal_set signals{io};
  asio::steady_timer drain_timer{io};
  asio::thread_pool pool{kHandlerThreads};
};

}  // namespace

struct HttpServer::State {
  State(ServerSettings given, LogSink sink)
      : settings(std::move(given)),
        address(parse_address(settings.listen)),
        log(std::move(sink)),
        registry(settings.data, settings.registry),
        models(settings.models, log),
        keys(settings.prepared_key_bytes, registry.prepared_keys_folder()) {
    check_limits(settings);
    check_is_safe(settings, address, registry);
    tls = make_tls(settings);
    network = std::make_unique<Network>();
    bind();
    engine = std::make_unique<Engine>(settings, keys, metrics, log);
    jobs = std::make_unique<JobRunner>(settings, registry, models, *engine, log);
    const bool takes_everybody = address.address().is_loopback() || settings.is_insecure;
    handlers = std::make_unique<Handlers>(settings, registry, models, keys, *engine, *jobs, metrics,
                                          takes_everybody);
    context.reset(new ConnectionContext{settings, *handlers, *engine, metrics, log, network->pool});
  }

  // Threads first, then what they use: connections hold keys and uploads until io is gone.
  ~State() {
    {
      const std::lock_guard lock(mutex);
      is_stopping = true;
    }
    stopping.notify_all();
    if (maintenance.joinable()) maintenance.join();
    if (network) {
      network->io.stop();
      for (std::thread& thread : threads) thread.join();
      network->pool.join();
    }
    if (jobs) jobs->stop();
    engine.reset();
    network.reset();
  }

  void bind() {
    error_code error;
    tcp::acceptor& acceptor = network->acceptor;
    acceptor.open(address.protocol(), error);
    if (!error) acceptor.set_option(tcp::acceptor::reuse_address(true), error);
    if (!error) acceptor.bind(address, error);
    if (!error) acceptor.listen(asio::socket_base::max_listen_connections, error);
    if (error) {
      throw Error(ErrorCode::invalid_argument,
                  fmt::format("cannot listen on {}: {}", settings.listen, error.message()),
                  "--listen", "another port, or 0 for any that is free");
    }
    address = acceptor.local_endpoint();
  }

  asio::awaitable<void> accept() {
    while (true) {
      error_code error;
      tcp::socket socket = co_await network->acceptor.async_accept(
          asio::any_io_executor(asio::make_strand(network->io)),
          asio::redirect_error(asio::use_awaitable, error));
      if (error == asio::error::operation_aborted) co_return;
      if (error) {  // no file descriptors are left, say
        log.write("error", "accept", {{"error", error.message()}});
        asio::steady_timer pause(network->io, std::chrono::milliseconds(100));
        co_await pause.async_wait(asio::redirect_error(asio::use_awaitable, error));
        continue;
      }
      const auto executor = socket.get_executor();
      const bool is_full = context->open >= settings.connections;
      asio::co_spawn(executor,
                     is_full ? refuse_connection(std::move(socket), tls != nullptr)
                             : serve_connection(std::move(socket), tls.get(), *context),
                     asio::detached);
    }
  }

  bool is_busy() const {
    return context->active > 0 || engine->waiting() > 0 || engine->running() > 0;
  }

  asio::awaitable<void> wait_while_busy(Seconds most) {
    const auto end = std::chrono::steady_clock::now() + most;
    while (is_busy() && std::chrono::steady_clock::now() < end) {
      error_code ignored;
      network->drain_timer.expires_after(kDrainCheck);
      co_await network->drain_timer.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
    }
  }

  asio::awaitable<void> drain() {
    if (handlers->is_draining()) co_return;
    handlers->drain();
    jobs->stop_starting();
    log.write("info", "drain",
              {{"requests", context->active.load()}, {"jobs", jobs->unfinished()}});
    co_await wait_while_busy(settings.drain);
    jobs->stop();
    engine->cancel_all(busy(503, "the server stopped before the request had ended", 10));
    co_await wait_while_busy(kAnswersAfterDrain);
    log.write("info", "stopped", {{"requests", context->active.load()}});
    network->io.stop();
  }

  void maintain() {
    auto next_clean_up = std::chrono::steady_clock::now();
    std::unique_lock lock(mutex);
    while (!stopping.wait_for(lock, settings.model_poll, [this] { return is_stopping; })) {
      lock.unlock();
      models.poll();
      if (std::chrono::steady_clock::now() >= next_clean_up) {
        next_clean_up = std::chrono::steady_clock::now() + kCleanUp;
        try {
          registry.clean_up();
        } catch (const std::exception& error) {
          log.write("error", "clean_up", {{"error", error.what()}});
        }
      }
      lock.lock();
    }
  }

  const ServerSettings settings;
  tcp::endpoint address;
  Log log;
  Metrics metrics;
  Registry registry;
  ModelStore models;
  PreparedKeyStore keys;
  std::unique_ptr<asio::ssl::context> tls;
  std::unique_ptr<JobRunner> jobs;  // outlives the engine, which tells it of ends
  std::unique_ptr<Engine> engine;
  std::unique_ptr<Handlers> handlers;
  std::unique_ptr<Network> network;
  std::unique_ptr<ConnectionContext> context;
  std::vector<std::thread> threads;
  std::mutex mutex;
  std::condition_variable stopping;
  bool is_stopping = false;
  std::thread maintenance;
};

HttpServer::HttpServer(ServerSettings settings, LogSink log)
    : state_(std::make_unique<State>(std::move(settings), std::move(log))) {}
HttpServer::~HttpServer() = default;

std::string HttpServer::url() const {
  const bool is_v6 = state_->address.address().is_v6();
  return fmt::format("{}://{}{}{}:{}", state_->tls ? "https" : "http", is_v6 ? "[" : "",
                     state_->address.address().to_string(), is_v6 ? "]" : "",
                     state_->address.port());
}
std::uint16_t HttpServer::port() const { return state_->address.port(); }
bool HttpServer::wants_tokens() const { return !state_->registry.tokens().empty(); }
std::vector<ModelPointer> HttpServer::models() const { return state_->models.all(); }

void HttpServer::start() {
  State& state = *state_;
  asio::co_spawn(state.network->io, state.accept(), asio::detached);
  for (int t = 0; t < kNetworkThreads; ++t)
    state.threads.emplace_back([&state] { state.network->io.run(); });
  state.maintenance = std::thread([&state] { state.maintain(); });
  state.log.write("info", "started", {{"url", url()}, {"models", state.models.all().size()}});
}

void HttpServer::stop_on_signals() {
  asio::signal_set& signals = state_->network->signals;
  signals.add(SIGINT);
  signals.add(SIGTERM);
  signals.async_wait([this](const error_code& error, int) {
    if (error) return;
    drain();
    // The second one does not wait.
    state_->network->signals.async_wait([this](const error_code& again, int) {
      if (!again) state_->network->io.stop();
    });
  });
}

void HttpServer::drain() { asio::co_spawn(state_->network->io, state_->drain(), asio::detached); }

void HttpServer::wait() {
  for (std::thread& thread : state_->threads) thread.join();
  state_->threads.clear();
}

}  // namespace torusml
