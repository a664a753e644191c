// One connection: HTTP/1.1 over TCP or TLS, request after request, with time limits.
//
//   asio::co_spawn(executor, serve_connection(std::move(socket), tls, context), asio::detached);
//
// Headers are read with Boost.Beast's parser, bodies by their announced length. What handlers do
// runs in the context's pool, the connection itself on its strand. While a run is under way the
// connection looks whether its client is still there. Thread rule: one connection, one strand.
#pragma once

// clang-format off
#include <utility>  // first: awaitable.hpp of Boost 1.74 needs it
// clang-format on
#include <atomic>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/thread_pool.hpp>

#include "server/engine.h"
#include "server/handlers.h"
#include "server/log.h"
#include "server/metrics.h"
#include "server/settings.h"

namespace torusml {

struct ConnectionContext {
  const ServerSettings& settings;
  Handlers& handlers;
  Engine& engine;
  Metrics& metrics;
  Log& log;
  boost::asio::thread_pool& pool;
  std::atomic<std::size_t> open = 0;    // connections
  std::atomic<std::size_t> active = 0;  // requests
};

// tls null: none. Never throws.
boost::asio::awaitable<void> serve_connection(boost::asio::ip::tcp::socket socket,
                                              boost::asio::ssl::context* tls,
                                              ConnectionContext& context);

// Says that there are too many connections, if it can be said without TLS.
boost::asio::awaitable<void> refuse_connection(boost::asio::ip::tcp::socket socket, bool is_tls);

}  // namespace torusml
