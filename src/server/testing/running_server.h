// A server with models and keys on a free port of the loopback address, and requests to it. Tests
// only.
#pragma once

#include <fmt/format.h>

#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>

#include "server/http_server.h"
#include "server/testing/plain_http.h"
#include "server/testing/small_model.h"

namespace torusml {

inline const StoredModel& shared_model() {
  static const StoredModel model = small_model();
  return model;
}
inline const SmallClient& shared_client() {
  static const SmallClient client(shared_model());
  return client;
}

class RunningServer {
 public:
  using Change = std::function<void(ServerSettings&)>;

  explicit RunningServer(const Change& change = {}) : change_(change) {
    std::filesystem::create_directory(folder_ / "models");
    save_model(shared_model().model, folder_ / "models/net.tml");
    start();
  }

  void start() {
    ServerSettings settings;
    settings.models = folder_ / "models";
    settings.data = folder_ / "data";
    settings.listen = "127.0.0.1:0";
    settings.concurrent_runs = 1;
    settings.threads_per_run = 1;
    settings.model_poll = Seconds(1);
    if (change_) change_(settings);
    server_ = std::make_unique<HttpServer>(settings, [this](const std::string& line) {
      const std::lock_guard lock(mutex_);
      log_ += line;
    });
    server_->start();
  }
  void stop() { server_.reset(); }

  HttpServer& server() { return *server_; }
  std::uint16_t port() const { return server_->port(); }
  std::string file(const std::string& name) const { return folder_ / name; }
  std::string log() {
    const std::lock_guard lock(mutex_);
    return log_;
  }
  NewToken add_token(const TokenSettings& settings) {
    return Registry(folder_ / "data", {}, false).add_token(settings);
  }

  // One request on a connection of its own. headers: lines with their ends.
  HttpReply request(const std::string& method, const std::string& target,
                    const std::string& headers = "", const std::string& body = "",
                    bool announces_length = true) {
    PlainHttp http(port());
    std::string text =
        fmt::format("{} {} HTTP/1.1\r\nHost: localhost\r\n{}", method, target, headers);
    if (announces_length && (!body.empty() || method == "POST" || method == "PUT"))
      text += fmt::format("Content-Length: {}\r\n", body.size());
    http.send(text + "\r\n" + body);
    return http.receive(method != "HEAD");
  }
  HttpReply upload(const SmallClient& client = shared_client(), const std::string& headers = "") {
    return request("PUT", "/v2/keys/" + client.key_id, headers, client.keys);
  }
  HttpReply infer(const std::string& inputs, std::int64_t samples, const std::string& headers = "",
                  const SmallClient& client = shared_client(), const std::string& model = "net") {
    PlainHttp http(port());
    http.send(infer_text(inputs, samples, headers, client, model));
    return http.receive();
  }
  static std::string infer_text(const std::string& inputs, std::int64_t samples,
                                const std::string& headers = "",
                                const SmallClient& client = shared_client(),
                                const std::string& model = "net") {
    const std::string json = infer_json(client.key_id, samples, inputs.size());
    return fmt::format(
               "POST /v2/models/{}/infer HTTP/1.1\r\nHost: localhost\r\n{}Content-Length: {}\r\n"
               "Inference-Header-Content-Length: {}\r\n\r\n",
               model, headers, json.size() + inputs.size(), json.size()) +
           json + inputs;
  }
  static std::string infer_json(const std::string& key, std::int64_t samples, std::size_t bytes) {
    return nlohmann::json{{"id", "42"},
                          {"parameters", {{"key", key}, {"samples", samples}}},
                          {"inputs",
                           {{{"name", "encrypted_inputs"},
                             {"datatype", "UINT8"},
                             {"shape", {bytes}},
                             {"parameters", {{"binary_data_size", bytes}}}}}}}
        .dump();
  }
  // The file behind the JSON.
  static std::string outputs_of(const HttpReply& reply) {
    const auto header = reply.headers.find("inference-header-content-length");
    return header == reply.headers.end() ? "" : reply.body.substr(std::stoul(header->second));
  }

 private:
  TemporaryFolder folder_;
  Change change_;
  std::mutex mutex_;
  std::string log_;
  std::unique_ptr<HttpServer> server_;
};

}  // namespace torusml
