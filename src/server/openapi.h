// src/server/openapi.json, which describes the interface for machines.
#pragma once

namespace torusml {

extern const char* const kOpenApi;

}  // namespace torusml
