#include <fmt/format.h>

#include <csignal>
#include <cstdio>

#include "cli/commands.h"
#include "cli/human.h"
#include "server/http_server.h"

namespace torusml {
namespace {

void print_start(const HttpServer& server, const ServerSettings& s) {
  fmt::print("listening on {}{}\n", server.url(),
             server.wants_tokens() ? "" : ", without tokens: all clients are tenant 'local'");
  for (const ModelPointer& model : server.models()) {
    fmt::print("model {} version {}: {}, {} a sample{}\n", model->name, model->version,
               short_hex(model->half.hash),
               counted(static_cast<std::int64_t>(model->sample_lookups), "lookup"),
               model->client.empty() ? ", no client's half" : "");
  }
  fmt::print("{} at once, {} threads and {} each; {} may wait, {} s each\n",
             counted(s.concurrent_runs, "run"),
             s.threads_per_run == 0 ? "all" : std::to_string(s.threads_per_run),
             human_bytes(s.memory_per_run), counted(s.queue, "request"), s.deadline.count());
  fmt::print("{}; bodies of {}, keys of {}; {} and {} of keys for a tenant, {} in all\n",
             counted(s.connections, "connection"), human_bytes(s.infer_bytes),
             human_bytes(s.registry.one_key_bytes), counted(s.registry.keys_per_tenant, "key"),
             human_bytes(s.registry.key_bytes_per_tenant), human_bytes(s.registry.key_bytes));
  std::fflush(stdout);
}

}  // namespace

void run_serve(const ServeArguments& arguments) {
  std::signal(SIGPIPE, SIG_IGN);
  HttpServer server(arguments.settings, stderr_sink());
  print_start(server, arguments.settings);
  server.start();
  server.stop_on_signals();
  server.wait();
}

}  // namespace torusml
