// The server: what `torusml serve` runs.
//
//   HttpServer server(settings, stderr_sink());   // models are loaded, the address is bound
//   fmt::print("{}\n", server.url());
//   server.start();
//   server.stop_on_signals();   // SIGINT and SIGTERM drain it
//   server.wait();              // until it has drained
//
// drain(): not ready, no new work; what runs may end within settings.drain; then it stops. Jobs
// that have not ended stay in the registry. Errors of the constructor: invalid_argument (address,
// or one that is not safe), file_unreadable and those of models and of the registry. Thread rule:
// concurrent.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "server/log.h"
#include "server/model_store.h"
#include "server/settings.h"

namespace torusml {

class HttpServer {
 public:
  HttpServer(ServerSettings settings, LogSink log);
  ~HttpServer();  // at once

  std::string url() const;
  std::uint16_t port() const;
  bool wants_tokens() const;
  std::vector<ModelPointer> models() const;

  void start();
  void stop_on_signals();
  void drain();
  void wait();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace torusml
