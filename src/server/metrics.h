// What the server counts, in Prometheus' text format.
//
//   Metrics metrics;
//   metrics.count_request("GET /v2/models", 200, 0.001, 0, 120);
//   metrics.text({.queue = 3});
//
// Thread rule: concurrent.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <deque>
#include <map>
#include <mutex>
#include <string>
#include <utility>

namespace torusml {

// Of a request for inference: body from the network, checks and decoding, waiting, keys into
// memory, lookups and sums, encoding of results, answer to the network.
enum class Stage { read, decode, queue, keys, run, encode, write };
inline constexpr std::array kStageNames = {"read", "decode", "queue", "keys",
                                           "run",  "encode", "write"};

// Read when the text is made.
struct Gauges {
  std::size_t queue = 0, running = 0, connections = 0, jobs = 0, models = 0;
  std::uint64_t prepared_key_bytes = 0, body_bytes = 0;
};

class Metrics {
 public:
  void count_request(const std::string& route, int status, double seconds, std::uint64_t bytes_in,
                     std::uint64_t bytes_out);
  void count_error(const std::string& code);
  void count_rate_limited() { ++rate_limited_; }
  void add_stage(Stage stage, double seconds);
  void add_lookups(std::uint64_t lookups) { lookups_ += lookups; }
  void add_batch(std::size_t requests, std::size_t samples);

  std::string text(const Gauges& gauges);

 private:
  using Clock = std::chrono::steady_clock;
  struct Requests {
    std::uint64_t count = 0, bytes_in = 0, bytes_out = 0;
    double seconds = 0;
  };
  struct StageTime {
    std::uint64_t count = 0;
    double seconds = 0;
  };
  double lookups_per_second();  // since the call before that is 10 s old or more

  std::atomic<std::uint64_t> lookups_ = 0, rate_limited_ = 0;
  std::mutex mutex_;  // of what follows
  std::map<std::pair<std::string, int>, Requests> requests_;
  std::map<std::string, std::uint64_t> errors_;
  std::array<StageTime, kStageNames.size()> stages_;
  std::uint64_t batches_ = 0, batched_requests_ = 0, batched_samples_ = 0;
  std::deque<std::pair<Clock::time_point, std::uint64_t>> seen_{{Clock::now(), 0}};
};

// Of this process, in bytes; 0 where the system does not say.
std::uint64_t resident_bytes();

}  // namespace torusml
