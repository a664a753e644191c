// What each endpoint does, without sockets.
//
//   Call call;
//   handlers.open(request, call);                        // route, token, limits: before any body
//   HttpResponse response = handlers.answer(call);       // endpoints that take no body
//
//   InferTask task = handlers.open_infer(call, request, json);       // before the ciphertext is
//   read Started started = handlers.start(std::move(task), bytes, done);  // a run, or a job's
//   answer
//
//   UploadTask upload = handlers.open_upload(call, request);
//   upload.write(bytes);
//   HttpResponse response = handlers.finish(upload);
//
// All that is refused is an Error, HttpError where the code alone does not give the status.
// Thread rule: concurrent; calls may read and write files.
#pragma once

#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <variant>

#include "registry/registry.h"
#include "server/engine.h"
#include "server/http_message.h"
#include "server/infer_body.h"
#include "server/jobs.h"
#include "server/metrics.h"
#include "server/model_store.h"
#include "server/rate_limit.h"
#include "server/routes.h"
#include "server/settings.h"

namespace torusml {

struct Call {
  Route route;
  Identity who;
  ModelPointer model;            // of an endpoint below a model
  std::uint64_t body_bytes = 0;  // that follow the header
  std::uint64_t json_bytes = 0;  // of these, of a request for inference
};

// Bytes of a body that is in memory, counted while this lives.
class BodyBytes {
 public:
  BodyBytes(std::atomic<std::uint64_t>& all, std::uint64_t bytes) : all_(&all), bytes_(bytes) {
    all += bytes;
  }
  BodyBytes(BodyBytes&& other) noexcept
      : all_(other.all_), bytes_(std::exchange(other.bytes_, 0)) {}
  ~BodyBytes() { *all_ -= bytes_; }

 private:
  std::atomic<std::uint64_t>* all_;
  std::uint64_t bytes_;
};

struct InferTask {
  Call call;
  InferHeader header;
  bool is_async = false;
  std::string idempotency_key;
  std::shared_ptr<KeyUse> use;
  std::uint64_t bytes = 0;  // to read
  BodyBytes in_memory;
};

// A response, or work whose result `done` is told.
using Started = std::variant<HttpResponse, std::shared_ptr<Work>>;

class UploadTask {
 public:
  // Error request_invalid.
  void write(std::span<const std::uint8_t> bytes) {
    if (upload_) upload_->write(bytes);
  }

 private:
  friend class Handlers;
  std::string tenant_, id_;
  std::optional<KeyUpload> upload_;  // none: the key is here already
};

class Handlers {
 public:
  // takes_everybody: whoever sends no token is the tenant `local`, while there are no tokens.
  Handlers(const ServerSettings& settings, Registry& registry, const ModelStore& models,
           PreparedKeyStore& keys, Engine& engine, JobRunner& jobs, Metrics& metrics,
           bool takes_everybody);

  // What was known of the call when it was refused is for the log.
  void open(const HttpRequest& request, Call& call);
  HttpResponse answer(const Call& call);

  InferTask open_infer(const Call& call, const HttpRequest& request, std::string_view json);
  Started start(InferTask task, std::string_view bytes, std::function<void(WorkResult)> done);

  UploadTask open_upload(const Call& call, const HttpRequest& request);
  HttpResponse finish(UploadTask& upload);

  // Not ready; no new work.
  void drain() { is_draining_ = true; }
  bool is_draining() const { return is_draining_; }
  void set_connections(std::size_t connections) { connections_ = connections; }

 private:
  Identity identify(const HttpRequest& request, const EndpointInfo& info) const;
  // Error rate_limited.
  void count_request(const Identity& who);
  void check_body(const HttpRequest& request, Call& call) const;
  // Errors not_found. Nothing else decides who sees what.
  ModelPointer visible_model(const Identity& who, const Route& route) const;
  JobRecord visible_job(const Identity& who, const std::string& id) const;
  std::shared_ptr<KeyUse> use_key(const Identity& who, const std::string& id);

  HttpResponse about() const;
  HttpResponse list_models(const Identity& who) const;
  HttpResponse describe_model(const Identity& who, const ServedModel& model) const;
  HttpResponse client_half(const ServedModel& model) const;
  HttpResponse list_keys(const Identity& who) const;
  HttpResponse key_head(const Call& call) const;
  HttpResponse delete_key(const Call& call);
  HttpResponse describe_job(const JobRecord& job) const;
  HttpResponse job_result(const JobRecord& job) const;
  HttpResponse metrics_text() const;

  const ServerSettings& settings_;
  Registry& registry_;
  const ModelStore& models_;
  PreparedKeyStore& keys_;
  Engine& engine_;
  JobRunner& jobs_;
  Metrics& metrics_;
  const bool takes_everybody_;
  std::atomic<bool> is_draining_ = false;
  std::atomic<std::size_t> connections_ = 0;
  std::atomic<std::uint64_t> body_bytes_ = 0;
  RateLimit rate_limit_;
};

}  // namespace torusml
