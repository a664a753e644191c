// What `torusml serve` can be told. docs/server.md has the same list for people.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "registry/registry.h"

namespace torusml {

struct ServerSettings {
  std::string models;                     // a file, or a folder (model_store.h)
  std::string data;                       // the registry's folder
  std::string listen = "127.0.0.1:8080";  // port 0: any that is free
  std::string certificate, private_key;   // PEM; both or none
  bool is_insecure = false;               // beyond loopback without TLS or without tokens

  // Connections.
  std::uint32_t connections = 256;
  Seconds header_timeout{10};  // from the first byte of a request, or of a connection, on
  Seconds idle_timeout{60};    // between two requests
  Seconds body_timeout{30};    // and for each least_bytes_per_second of a body one more
  std::uint64_t least_bytes_per_second = 65536;

  // Bodies. That of a key is bounded by the registry.
  std::uint32_t header_bytes = 16384;  // of HTTP
  std::uint32_t json_bytes = 65536;    // of the JSON of a request
  std::uint64_t infer_bytes = std::uint64_t{64} << 20;
  std::uint64_t bodies_bytes = std::uint64_t{1} << 30;  // of all requests for inference together

  // Requests of one tenant: so many a second, and so many at once. A rate of 0 is no limit.
  double tenant_rate = 1000;
  std::uint32_t tenant_burst = 2000;

  // Work.
  std::uint32_t queue = 64;
  std::uint32_t jobs = 1000;  // asynchronous ones that wait, of all tenants
  std::uint32_t concurrent_runs = 2;
  int threads_per_run = 0;  // 0: all; runs share them
  std::uint32_t samples_per_request = 4096;
  std::uint32_t samples_per_batch = 256;  // of several requests
  std::chrono::milliseconds batch_window{2};
  Seconds deadline{600};         // of a request, from its last byte on
  Seconds job_deadline{86400};   // of a job, from its start on
  Seconds result_patience{600};  // a job's result that cannot be written is kept in memory so long
  std::uint64_t memory_per_run = 4'000'000'000;
  std::uint64_t prepared_key_bytes = 4'000'000'000;

  Seconds drain{30};
  Seconds model_poll{2};
  RegistryLimits registry;
};

}  // namespace torusml
