#include "server/routes.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <optional>

#include "server/http_message.h"

namespace torusml {
namespace {

constexpr auto kEndpoints = std::to_array<EndpointInfo>({
    {Endpoint::live, "GET", "/v2/health/live", true},
    {Endpoint::ready, "GET", "/v2/health/ready", true},
    {Endpoint::about, "GET", "/v2", true},
    {Endpoint::openapi, "GET", "/v2/openapi.json", true},
    {Endpoint::metrics, "GET", "/metrics"},
    {Endpoint::models, "GET", "/v2/models"},
    {Endpoint::model, "GET", "/v2/models/{m}"},
    {Endpoint::model, "GET", "/v2/models/{m}/versions/{v}"},
    {Endpoint::model_ready, "GET", "/v2/models/{m}/ready"},
    {Endpoint::model_ready, "GET", "/v2/models/{m}/versions/{v}/ready"},
    {Endpoint::client_half, "GET", "/v2/models/{m}/client"},
    {Endpoint::client_half, "GET", "/v2/models/{m}/versions/{v}/client"},
    {Endpoint::infer, "POST", "/v2/models/{m}/infer"},
    {Endpoint::infer, "POST", "/v2/models/{m}/versions/{v}/infer"},
    {Endpoint::keys, "GET", "/v2/keys"},
    {Endpoint::key_head, "HEAD", "/v2/keys/{id}"},
    {Endpoint::key_put, "PUT", "/v2/keys/{id}"},
    {Endpoint::key_delete, "DELETE", "/v2/keys/{id}"},
    {Endpoint::job, "GET", "/v2/jobs/{id}"},
    {Endpoint::job_result, "GET", "/v2/jobs/{id}/result"},
    {Endpoint::job_delete, "DELETE", "/v2/jobs/{id}"},
});

// The first segment of a path, which is taken off it.
std::string_view take_segment(std::string_view& path) {
  path.remove_prefix(1);
  const std::string_view segment = path.substr(0, path.find('/'));
  path.remove_prefix(segment.size());
  return segment;
}

std::optional<Route> match(const EndpointInfo& info, std::string_view path) {
  Route route{info.endpoint, &info, {}, {}, {}};
  std::string_view pattern = info.pattern;
  while (!pattern.empty() && !path.empty()) {
    const std::string_view expected = take_segment(pattern), found = take_segment(path);
    if (expected.starts_with('{') ? found.empty() : found != expected) return std::nullopt;
    if (expected == "{m}") route.model = found;
    if (expected == "{v}") route.version = found;
    if (expected == "{id}") route.id = found;
  }
  return pattern.empty() && path.empty() ? std::optional(route) : std::nullopt;
}

}  // namespace

std::span<const EndpointInfo> endpoints() { return kEndpoints; }

Route find_route(std::string_view method, std::string_view target) {
  const std::string_view path = target.substr(0, target.find('?'));
  if (!path.starts_with('/')) throw bad_request(400, "the request's target is no path");
  std::string allowed;
  for (const EndpointInfo& info : kEndpoints) {
    const std::optional<Route> route = match(info, path);
    if (!route) continue;
    if (method == info.method) return *route;
    allowed += (allowed.empty() ? "" : ", ") + std::string(info.method);
  }
  if (allowed.empty())
    throw Error(ErrorCode::not_found, "the server has nothing at this path", "",
                "GET /v2/openapi.json lists what it has");
  throw HttpError(
      405,
      Error(ErrorCode::request_invalid, fmt::format("this path takes {}, not {}", allowed, method)),
      {{"Allow", allowed}});
}

}  // namespace torusml
