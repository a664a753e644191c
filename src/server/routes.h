// The table of endpoints.
//
//   Route route = find_route("GET", "/v2/models/net/client");
//   route.endpoint; route.model;   // Endpoint::client_half, "net"
//
// Thread rule: pure functions.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace torusml {

enum class Endpoint {
  live,
  ready,
  about,
  openapi,
  metrics,
  models,
  model,
  model_ready,
  client_half,
  infer,
  keys,
  key_head,
  key_put,
  key_delete,
  job,
  job_result,
  job_delete,
};

struct EndpointInfo {
  Endpoint endpoint;
  const char* method;
  const char* pattern;     // {m}: a model, {v}: its version, {id}: of a key or job
  bool is_public = false;  // takes no token
};

std::span<const EndpointInfo> endpoints();

struct Route {
  Endpoint endpoint = Endpoint::live;
  const EndpointInfo* info = nullptr;
  std::string model, version, id;  // version empty: the latest
};

// What follows '?' is ignored. Errors: request_invalid, status 400 for a target that is no path,
// 405 with Allow; not_found.
Route find_route(std::string_view method, std::string_view target);

}  // namespace torusml
