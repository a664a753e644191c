#include "server/handlers.h"

#include <fmt/format.h>

#include <charconv>
#include <nlohmann/json.hpp>

#include "server/openapi.h"
#include "serving/server_model.h"

namespace torusml {
namespace {

using Json = nlohmann::ordered_json;

const char* const kLocalTenant = "local";

HttpResponse json_response(const Json& json, int status = 200) {
  HttpResponse response;
  response.status = status;
  response.body = json.dump(-1, ' ', false, Json::error_handler_t::replace);
  return response;
}

HttpResponse empty_response(int status, HttpHeaders headers = {}) {
  HttpResponse response;
  response.status = status;
  response.headers = std::move(headers);
  return response;
}

std::optional<std::uint64_t> parse_number(std::string_view text) {
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

// Where a part of an upload begins, and how much there is in all.
struct Range {
  std::uint64_t first = 0, total = 0;
};

// "bytes 0-99/1000", of a body of so many bytes.
Range parse_range(std::string_view text, std::uint64_t body_bytes) {
  const HttpError wrong =
      bad_request(416, fmt::format("Content-Range does not say where {} bytes belong", body_bytes),
                  "Content-Range", "bytes FIRST-LAST/TOTAL");
  if (!text.starts_with("bytes ")) throw wrong;
  text.remove_prefix(6);
  const std::size_t dash = text.find('-'), slash = text.find('/');
  if (dash == text.npos || slash == text.npos || slash < dash) throw wrong;
  const auto first = parse_number(text.substr(0, dash));
  const auto last = parse_number(text.substr(dash + 1, slash - dash - 1));
  const auto total = parse_number(text.substr(slash + 1));
  if (!first || !last || !total || *last < *first || *last >= *total ||
      *last - *first + 1 != body_bytes)
    throw wrong;
  return {*first, *total};
}

Json shapes(const std::vector<TensorName>& tensors) {
  Json list = Json::array();
  for (const TensorName& tensor : tensors) {
    list.push_back({{"name", tensor.name}, {"shape", tensor.shape}});
    if (tensor.is_clear) list.back()["clear"] = true;
  }
  return list;
}

Json tensor_metadata(const char* name) {
  return Json::array({{{"name", name}, {"datatype", "UINT8"}, {"shape", {-1}}}});
}

const char* name_of(JobState state) {
  switch (state) {
    case JobState::queued:
      return "queued";
    case JobState::running:
      return "running";
    case JobState::done:
      return "done";
    case JobState::failed:
      return "failed";
    case JobState::cancelled:
      return "cancelled";
  }
  return "";
}

Json error_json(const Error& error) {
  return {{"error", error.what()},
          {"code", error_code_name(error.code())},
          {"message", error.message()},
          {"where", error.where()},
          {"hint", error.hint()}};
}

// Whether a page in a browser asks: one from elsewhere must not use a server that takes everybody
// on this machine, nor one whose name was made to point here.
bool is_of_a_page(const HttpRequest& request) {
  if (!request.header("Origin").empty()) return true;
  std::string_view host = request.header("Host");
  const std::size_t colon = host.rfind(':');
  if (colon != host.npos && host.find(']', colon) == host.npos) host = host.substr(0, colon);
  const bool is_number =
      host.starts_with("127.") && host.find_first_not_of("0123456789.") == host.npos;
  return !host.empty() && host != "localhost" && host != "[::1]" && !is_number;
}

HttpError stopping() { return busy(503, "the server is about to stop", 10); }

// Whether a list of preferences has respond-async.
bool prefers_async(std::string_view preferences) {
  while (!preferences.empty()) {
    std::string_view one = preferences.substr(0, preferences.find(','));
    preferences.remove_prefix(std::min(preferences.size(), one.size() + 1));
    one.remove_prefix(std::min(one.size(), one.find_first_not_of(" \t")));
    if (one.substr(0, one.find_first_of(" \t;")) == "respond-async") return true;
  }
  return false;
}

}  // namespace

Handlers::Handlers(const ServerSettings& settings, Registry& registry, const ModelStore& models,
                   PreparedKeyStore& keys, Engine& engine, JobRunner& jobs, Metrics& metrics,
                   bool takes_everybody)
    : settings_(settings),
      registry_(registry),
      models_(models),
      keys_(keys),
      engine_(engine),
      jobs_(jobs),
      metrics_(metrics),
      takes_everybody_(takes_everybody) {}

void Handlers::open(const HttpRequest& request, Call& call) const {
  call.route = find_route(request.method, request.target);
  call.who = identify(request, *call.route.info);
  if (!call.route.model.empty()) call.model = visible_model(call.who, call.route);
  check_body(request, call);
}

Identity Handlers::identify(const HttpRequest& request, const EndpointInfo& info) const {
  if (info.is_public) return {};
  if (info.endpoint == Endpoint::metrics && request.is_from_loopback) return {};
  const std::string_view sent = request.header("Authorization");
  if (sent.starts_with("Bearer ")) return registry_.authenticate(sent.substr(7));
  // Revoked and expired tokens count: when the last one goes, nobody else comes in.
  if (sent.empty() && takes_everybody_ && registry_.tokens().empty() &&
      !(request.is_from_loopback && is_of_a_page(request)))
    return {kLocalTenant, {}};
  throw Error(ErrorCode::unauthorized, "the server wants a token, and none was sent", "",
              "Authorization: Bearer TOKEN; the operator makes one by torusml token add");
}

void Handlers::check_body(const HttpRequest& request, Call& call) const {
  const Endpoint endpoint = call.route.endpoint;
  std::uint64_t most = 0;
  if (endpoint == Endpoint::infer) most = settings_.infer_bytes;
  if (endpoint == Endpoint::key_put) most = settings_.registry.one_key_bytes;
  if (request.is_chunked || (most != 0 && !request.content_length)) {
    throw bad_request(411, "the length of the body is not announced", "Content-Length",
                      "a request that is not chunked");
  }
  call.body_bytes = request.content_length.value_or(0);
  if (call.body_bytes > most) {
    throw bad_request(
        413, fmt::format("the body has {} bytes, at most {} are taken for {} {}", call.body_bytes,
                         most, call.route.info->method, call.route.info->pattern));
  }
  if (endpoint != Endpoint::infer) return;
  const auto json_bytes = parse_number(request.header("Inference-Header-Content-Length"));
  if (!json_bytes || *json_bytes > call.body_bytes) {
    throw bad_request(400, "it does not say how much of the body is JSON",
                      "Inference-Header-Content-Length");
  }
  if (*json_bytes > settings_.json_bytes) {
    throw bad_request(413,
                      fmt::format("the JSON has {} bytes, at most {} are taken", *json_bytes,
                                  settings_.json_bytes),
                      "Inference-Header-Content-Length");
  }
  call.json_bytes = *json_bytes;
}

ModelPointer Handlers::visible_model(const Identity& who, const Route& route) const {
  ModelPointer model =
      who.may_see(route.model) ? models_.find(route.model, route.version) : nullptr;
  if (!model) {
    throw Error(ErrorCode::not_found,
                fmt::format("there is no model {}{}{}", route.model,
                            route.version.empty() ? "" : " of version ", route.version),
                "model", "GET /v2/models lists them");
  }
  return model;
}

JobRecord Handlers::visible_job(const Identity& who, const std::string& id) const {
  if (is_plain_id(id)) {
    if (std::optional<JobRecord> job = registry_.job(who.tenant, id);
        job && who.may_see(job->model))
      return *job;
  }
  throw Error(ErrorCode::not_found, fmt::format("there is no job {}", id), "job");
}

std::shared_ptr<KeyUse> Handlers::use_key(const Identity& who, const std::string& id) {
  const char* const hint = "upload it by PUT /v2/keys/{id}";
  const std::optional<KeyRecord> key = registry_.key(who.tenant, id);
  if (!key || !key->is_complete())
    throw Error(ErrorCode::not_found, fmt::format("there is no key {}", id), "key", hint);
  try {
    return std::make_shared<KeyUse>(registry_.use_key(who.tenant, id));
  } catch (const Error& error) {
    if (error.code() != ErrorCode::file_corrupt) throw;
    keys_.forget(id);
    throw Error(ErrorCode::not_found,
                fmt::format("key {} was damaged on the server's disk and is gone", id), "key",
                hint);
  }
}

HttpResponse Handlers::answer(const Call& call) {
  switch (call.route.endpoint) {
    case Endpoint::live:
    case Endpoint::ready:
      if (is_draining_) throw stopping();
      return json_response({{"live", true}, {"ready", true}});
    case Endpoint::about:
      return about();
    case Endpoint::openapi: {
      HttpResponse response;
      response.body = kOpenApi;
      return response;
    }
    case Endpoint::metrics:
      return metrics_text();
    case Endpoint::models:
      return list_models(call.who);
    case Endpoint::model:
      return describe_model(call.who, *call.model);
    case Endpoint::model_ready:
      if (is_draining_) throw stopping();
      return json_response({{"name", call.model->name}, {"ready", true}});
    case Endpoint::client_half:
      return client_half(*call.model);
    case Endpoint::keys:
      return list_keys(call.who);
    case Endpoint::key_head:
      return key_head(call);
    case Endpoint::key_delete:
      return delete_key(call);
    case Endpoint::job:
      return describe_job(visible_job(call.who, call.route.id));
    case Endpoint::job_result:
      return job_result(visible_job(call.who, call.route.id));
    case Endpoint::job_delete:
      jobs_.remove(call.who.tenant, visible_job(call.who, call.route.id).id);
      return empty_response(204);
    case Endpoint::infer:
    case Endpoint::key_put:
      break;
  }
  throw Error(ErrorCode::internal, "an endpoint with a body was called without one");
}

HttpResponse Handlers::about() const {
  return json_response({{"name", "torusml"},
                        {"version", TORUSML_VERSION},
                        {"extensions", {"binary_tensor_data", "keys", "jobs", "client"}}});
}

HttpResponse Handlers::list_models(const Identity& who) const {
  Json list = Json::array();
  for (const ModelPointer& model : models_.all()) {
    if (!who.may_see(model->name)) continue;
    if (list.empty() || list.back()["name"] != model->name)
      list.push_back({{"name", model->name}, {"versions", Json::array()}});
    list.back()["versions"].push_back(model->version);
  }
  return json_response({{"models", std::move(list)}});
}

HttpResponse Handlers::describe_model(const Identity& who, const ServedModel& model) const {
  Json versions = Json::array();
  for (const ModelPointer& other : models_.all()) {
    if (who.may_see(other->name) && other->name == model.name) versions.push_back(other->version);
  }
  const ServerSpec& spec = model.half.spec;
  const PlanOptions& options = spec.plan.options;
  Json key_sets = Json::array();
  for (const KeySet& set : spec.plan.key_sets) key_sets.push_back(set.name);
  const Json torusml = {{"model_hash", to_hex(model.half.hash)},
                        {"version", model.version},
                        {"key_sets_id", key_sets_id(needed_key_sets(model.half))},
                        {"key_sets", std::move(key_sets)},
                        {"inputs", shapes(spec.inputs)},
                        {"outputs", shapes(spec.outputs)},
                        {"input_bytes_per_sample", model.sample_bytes},
                        {"lookups_per_sample", model.sample_lookups},
                        {"samples_per_request", settings_.samples_per_request},
                        {"has_client_half", !model.client.empty()},
                        {"p_error", options.p_error},
                        {"security_bits", options.security_bits},
                        {"profile", to_string(options.profile)}};
  return json_response({{"name", model.name},
                        {"versions", std::move(versions)},
                        {"platform", "torusml"},
                        {"inputs", tensor_metadata("encrypted_inputs")},
                        {"outputs", tensor_metadata("encrypted_outputs")},
                        {"torusml", torusml}});
}

HttpResponse Handlers::client_half(const ServedModel& model) const {
  if (model.client.empty()) {
    throw Error(ErrorCode::not_found,
                fmt::format("the server has no client's half of model {}", model.name), "model",
                "the operator puts NAME.tmc beside NAME.tms");
  }
  HttpResponse response;
  response.content_type = "application/octet-stream";
  response.body = model.client;
  response.headers.push_back({"ETag", fmt::format("\"{}\"", to_hex(model.half.hash))});
  return response;
}

HttpResponse Handlers::list_keys(const Identity& who) const {
  Json list = Json::array();
  for (const KeyRecord& key : registry_.keys(who.tenant)) {
    list.push_back({{"id", key.id},
                    {"bytes", key.bytes},
                    {"received", key.received},
                    {"created", key.created},
                    {"last_used", key.last_used}});
  }
  return json_response({{"keys", std::move(list)}});
}

HttpResponse Handlers::key_head(const Call& call) const {
  const std::optional<KeyRecord> key =
      is_key_id(call.route.id) ? registry_.key(call.who.tenant, call.route.id) : std::nullopt;
  if (!key) throw Error(ErrorCode::not_found, fmt::format("there is no key {}", call.route.id));
  return empty_response(200, {{"Upload-Offset", std::to_string(key->received)},
                              {"Upload-Length", std::to_string(key->bytes)}});
}

HttpResponse Handlers::delete_key(const Call& call) {
  if (!is_key_id(call.route.id) || !registry_.delete_key(call.who.tenant, call.route.id))
    throw Error(ErrorCode::not_found, fmt::format("there is no key {}", call.route.id), "key");
  keys_.forget(call.route.id);
  return empty_response(204);
}

HttpResponse Handlers::describe_job(const JobRecord& job) const {
  const JobProgress progress = jobs_.progress(job.id);
  Json json = {{"id", job.id},
               {"state", name_of(job.state)},
               {"model_name", job.model},
               {"model_version", job.version},
               {"key", job.key},
               {"done", progress.done},
               {"total", progress.total},
               {"created", job.created},
               {"finished", job.finished}};
  json["error"] = job.error ? error_json(*job.error) : Json();
  return json_response(json);
}

HttpResponse Handlers::job_result(const JobRecord& job) const {
  if (job.error) throw as_http(*job.error);
  return with_status(ErrorCode::request_invalid, 409, {}, [&] {
    return infer_response(job.id, job.model, job.version, registry_.job_result(job.tenant, job.id));
  });
}

HttpResponse Handlers::metrics_text() const {
  HttpResponse response;
  response.content_type = "text/plain; version=0.0.4";
  response.body = metrics_.text({.queue = engine_.waiting(),
                                 .running = engine_.running(),
                                 .connections = connections_,
                                 .jobs = jobs_.unfinished(),
                                 .models = models_.all().size(),
                                 .prepared_key_bytes = keys_.bytes(),
                                 .body_bytes = body_bytes_});
  return response;
}

InferTask Handlers::open_infer(const Call& call, const HttpRequest& request,
                               std::string_view json) {
  if (is_draining_) throw stopping();
  const std::uint64_t bytes = call.body_bytes - call.json_bytes;
  InferTask task{call,
                 parse_infer_header(json, bytes),
                 prefers_async(request.header("Prefer")),
                 std::string(request.header("Idempotency-Key")),
                 nullptr,
                 bytes,
                 BodyBytes(body_bytes_, bytes)};
  if (!task.idempotency_key.empty() && !is_plain_id(task.idempotency_key))
    throw bad_request(400, "it is not 1 to 64 letters, digits and '-'", "Idempotency-Key");
  if (task.header.samples > settings_.samples_per_request) {
    throw bad_request(413, fmt::format("{} samples were sent, at most {} are taken at once",
                                       task.header.samples, settings_.samples_per_request));
  }
  check_infer_size(*call.model, task.header.samples, bytes);
  engine_.check_memory(*call.model, task.header.samples);
  if (body_bytes_ > settings_.bodies_bytes)
    throw busy(503, "the bodies of other requests take all the memory that is for them", 2);
  if (!task.is_async) engine_.check_room();
  task.use = use_key(call.who, task.header.key);
  return task;
}

Started Handlers::start(InferTask task, std::string_view bytes,
                        std::function<void(WorkResult)> done) {
  const ModelPointer& model = task.call.model;
  EncryptedInputs inputs = encrypted_inputs_from_bytes(bytes, bytes.size());
  const std::size_t samples = check_inputs(model->half, inputs);
  if (samples != task.header.samples) {
    throw bad_request(
        422, fmt::format("{} samples were announced, {} came", task.header.samples, samples));
  }
  if (!task.is_async) {
    auto counted = std::make_shared<BodyBytes>(std::move(task.in_memory));
    return engine_.submit({.model = model,
                           .key = task.header.key,
                           .use = std::move(task.use),
                           .inputs = std::move(inputs),
                           .deadline = std::chrono::steady_clock::now() + settings_.deadline,
                           .done = [counted, done = std::move(done)](WorkResult result) {
                             done(std::move(result));
                           }});
  }
  const JobRecord job = jobs_.add({.tenant = task.call.who.tenant,
                                   .model = model->name,
                                   .version = model->version,
                                   .key = task.header.key,
                                   .idempotency_key = task.idempotency_key,
                                   .request = bytes});
  HttpResponse response = describe_job(job);
  response.status = 202;
  response.headers.push_back({"Location", "/v2/jobs/" + job.id});
  return response;
}

UploadTask Handlers::open_upload(const Call& call, const HttpRequest& request) {
  if (is_draining_) throw stopping();
  UploadTask task;
  task.tenant_ = call.who.tenant;
  task.id_ = call.route.id;
  if (!is_key_id(task.id_)) {
    throw bad_request(400, "the id of a key is the SHA-256 of its file", "key",
                      "64 hexadecimal digits in lower case");
  }
  if (call.body_bytes == 0) throw bad_request(400, "there is no body", "key");
  const std::string_view content_range = request.header("Content-Range");
  const Range range = content_range.empty() ? Range{0, call.body_bytes}
                                            : parse_range(content_range, call.body_bytes);
  const std::uint64_t most = settings_.registry.one_key_bytes;
  if (range.total > most) {
    throw bad_request(413,
                      fmt::format("the key has {} bytes, at most {} are taken", range.total, most),
                      "Content-Range");
  }
  try {
    // All of it at once begins anew.
    task.upload_.emplace(registry_.open_upload(task.tenant_, task.id_, range.total, range.first,
                                               /*restarts=*/content_range.empty()));
  } catch (const Error& error) {
    if (error.code() != ErrorCode::request_invalid) throw;
    const std::optional<KeyRecord> key = registry_.key(task.tenant_, task.id_);
    if (key && key->is_complete()) return task;
    throw HttpError(409, error, {{"Upload-Offset", std::to_string(key ? key->received : 0)}});
  }
  return task;
}

HttpResponse Handlers::finish(UploadTask& task) {
  if (!task.upload_) return json_response({{"id", task.id_}});
  const KeyRecord key =
      with_status(ErrorCode::request_invalid, 422, {}, [&] { return task.upload_->finish(); });
  task.upload_.reset();
  const HttpHeaders offset = {{"Upload-Offset", std::to_string(key.received)},
                              {"Upload-Length", std::to_string(key.bytes)}};
  if (!key.is_complete()) return empty_response(202, offset);
  HttpResponse response = json_response({{"id", task.id_}, {"bytes", key.bytes}}, 201);
  response.headers = offset;
  return response;
}

}  // namespace torusml
