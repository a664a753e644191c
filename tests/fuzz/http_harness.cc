#include "http_harness.h"

#include <fmt/format.h>

#include <memory>
#include <nlohmann/json.hpp>

#include "artifact/codecs.h"
#include "registry/testing/temporary_registry.h"
#include "seeds.h"
#include "server/handlers.h"
#include "server/http_parser.h"
#include "serving/server_model.h"

namespace torusml::fuzz {
namespace {

// A server's rooms above its sockets, with one model and one key.
class Host {
 public:
  Host() { upload_key(); }
  ~Host() { jobs_.stop(); }

  // Throws what is refused.
  void take(std::string_view input) {
    HeaderParser parser(settings_.header_bytes);
    std::size_t used = 0;
    // In two parts, as a socket may give them.
    for (const std::size_t end : {input.size() / 2, input.size()}) {
      if (!parser.is_done() && end > used) used += parser.put(input.substr(used, end - used));
    }
    if (!parser.is_done()) return;
    const HttpRequest request = parser.request();
    Call call;
    handlers_.open(request, call);
    const std::string_view body = input.substr(used);
    if (body.size() >= call.body_bytes) answer(call, request, body.substr(0, call.body_bytes));
  }

 private:
  static ServerSettings settings(const TemporaryFolder& folder) {
    ServerSettings settings;
    settings.models = folder / "net.tms";
    settings.data = folder / "data";
    settings.concurrent_runs = 1;
    settings.threads_per_run = 1;
    settings.registry.one_key_bytes = 1 << 20;
    save_server_half(server_half(http_model()), settings.models);
    return settings;
  }

  void answer(const Call& call, const HttpRequest& request, std::string_view body) {
    switch (call.route.endpoint) {
      case Endpoint::infer:
        return infer(call, request, body);
      case Endpoint::key_put: {
        UploadTask upload = handlers_.open_upload(call, request);
        upload.write(as_bytes(body));
        handlers_.finish(upload);
        break;
      }
      default:
        handlers_.answer(call);
    }
    // The next request finds what this one found.
    const bool is_kept = call.route.id == key_id_;
    if (call.route.endpoint == Endpoint::key_put && !is_kept)
      registry_.delete_key(call.who.tenant, call.route.id);
    if (call.route.endpoint == Endpoint::key_delete && is_kept) upload_key();
  }

  // Handlers::start without the run.
  void infer(const Call& call, const HttpRequest& request, std::string_view body) {
    const InferTask task = handlers_.open_infer(call, request, body.substr(0, call.json_bytes));
    const std::string_view bytes = body.substr(call.json_bytes);
    check_inputs(call.model->half, encrypted_inputs_from_bytes(bytes, bytes.size()));
  }

  void upload_key() {
    KeyUpload upload = registry_.open_upload("local", key_id_, key_.size(), 0);
    upload.write(as_bytes(key_));
    upload.finish();
  }

  const TemporaryFolder folder_;
  const ServerSettings settings_ = settings(folder_);
  const std::string key_ = to_bytes(seed_evaluation_keys());
  const std::string key_id_ = to_hex(sha256(as_bytes(key_)));
  Log log_{[](const std::string&) {}};
  Registry registry_{settings_.data, settings_.registry};
  ModelStore models_{settings_.models, log_};
  PreparedKeyStore keys_{settings_.prepared_key_bytes, ""};
  Metrics metrics_;
  Engine engine_{settings_, keys_, metrics_, log_};
  JobRunner jobs_{settings_, registry_, models_, engine_, log_};
  Handlers handlers_{settings_, registry_, models_, keys_, engine_, jobs_, metrics_, true};
};

// Where the body begins; npos: nowhere.
std::size_t body_of(std::string_view request) {
  const std::size_t end = request.find("\r\n\r\n");
  return end == request.npos ? end : end + 4;
}

}  // namespace

std::string infer_json(const std::string& key, std::size_t bytes) {
  return fmt::format(
      R"({{"id":"42","parameters":{{"key":"{}","samples":1}},"inputs":[{{"name":"encrypted_inputs",)"
      R"("datatype":"UINT8","shape":[{}],"parameters":{{"binary_data_size":{}}}}}]}})",
      key, bytes, bytes);
}

std::string infer_request(std::string_view json, std::string_view bytes) {
  return fmt::format(
      "POST /v2/models/net/infer HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n"
      "Inference-Header-Content-Length: {}\r\n\r\n{}{}",
      json.size() + bytes.size(), json.size(), json, bytes);
}

void http(std::string_view request) {
  static Host host;
  try {
    host.take(request);
  } catch (const Error& error) {
    if (as_http(error).status() >= 500) report(error.what());
    const std::string body = error_response(error, "id").body;
    if (!nlohmann::json::accept(body)) report("an answer that is no JSON: " + body);
  }
}

void mutate_http(std::string& input, std::size_t limit, unsigned seed, const Mutator& mutator) {
  const std::size_t body = body_of(input), json_end = input.find("}]}");
  if (body == input.npos || json_end == input.npos || json_end < body || seed % 4 == 0)
    return mutator(input, limit);
  if (seed % 4 == 1) {
    std::string header = input.substr(0, body);
    mutator(header, limit);
    input = header + input.substr(body);
    return;
  }
  std::string json = input.substr(body, json_end + 3 - body), bytes = input.substr(json_end + 3);
  if (seed % 4 == 2) {
    mutator(json, limit);
  } else {
    mutate_container(bytes, limit, seed / 4, mutator);
    json = infer_json(to_hex(sha256(as_bytes(to_bytes(seed_evaluation_keys())))), bytes.size());
  }
  const std::string changed = infer_request(json, bytes);
  if (changed.size() <= limit) input = changed;
}

}  // namespace torusml::fuzz
