#include "server/metrics.h"

#include <fmt/format.h>
#include <unistd.h>

#include <fstream>
#include <iterator>

namespace torusml {
namespace {

using Text = std::back_insert_iterator<std::string>;

void begin(Text text, const char* name, const char* type, const char* help) {
  fmt::format_to(text, "# HELP torusml_{0} {2}\n# TYPE torusml_{0} {1}\n", name, type, help);
}

void single(Text text, const char* name, const char* type, const char* help, double value) {
  begin(text, name, type, help);
  fmt::format_to(text, "torusml_{} {}\n", name, value);
}

}  // namespace

std::uint64_t resident_bytes() {
  std::uint64_t pages = 0, resident = 0;
  std::ifstream("/proc/self/statm") >> pages >> resident;
  return resident * static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
}

void Metrics::count_request(const std::string& route, int status, double seconds,
                            std::uint64_t bytes_in, std::uint64_t bytes_out) {
  const std::lock_guard lock(mutex_);
  Requests& requests = requests_[{route, status}];
  ++requests.count;
  requests.bytes_in += bytes_in;
  requests.bytes_out += bytes_out;
  requests.seconds += seconds;
}

void Metrics::count_error(const std::string& code) {
  const std::lock_guard lock(mutex_);
  ++errors_[code];
}

void Metrics::add_stage(Stage stage, double seconds) {
  const std::lock_guard lock(mutex_);
  StageTime& time = stages_[static_cast<std::size_t>(stage)];
  ++time.count;
  time.seconds += seconds;
}

void Metrics::add_batch(std::size_t requests, std::size_t samples) {
  const std::lock_guard lock(mutex_);
  ++batches_;
  batched_requests_ += requests;
  batched_samples_ += samples;
}

double Metrics::lookups_per_second() {
  const Clock::time_point now = Clock::now();
  const std::uint64_t lookups = lookups_;
  while (seen_.size() > 1 && now - seen_[1].first >= std::chrono::seconds(10)) seen_.pop_front();
  const double seconds = std::chrono::duration<double>(now - seen_[0].first).count();
  const double rate = static_cast<double>(lookups - seen_[0].second) / std::max(seconds, 1e-3);
  if (now - seen_.back().first >= std::chrono::seconds(1)) seen_.push_back({now, lookups});
  return rate;
}

std::string Metrics::text(const Gauges& gauges) {
  std::string all;
  const Text text(all);
  const std::lock_guard lock(mutex_);
  begin(text, "requests_total", "counter", "Requests by route and status.");
  for (const auto& [key, requests] : requests_) {
    fmt::format_to(text, "torusml_requests_total{{route=\"{}\",status=\"{}\"}} {}\n", key.first,
                   key.second, requests.count);
  }
  std::map<std::string, Requests> by_route;
  for (const auto& [key, requests] : requests_) {
    Requests& sum = by_route[key.first];
    sum.count += requests.count;
    sum.bytes_in += requests.bytes_in;
    sum.bytes_out += requests.bytes_out;
    sum.seconds += requests.seconds;
  }
  begin(text, "request_seconds", "summary",
        "Time from a request's header to the end of its answer.");
  for (const auto& [route, sum] : by_route) {
    fmt::format_to(text,
                   "torusml_request_seconds_sum{{route=\"{0}\"}} {1}\n"
                   "torusml_request_seconds_count{{route=\"{0}\"}} {2}\n",
                   route, sum.seconds, sum.count);
  }
  begin(text, "received_bytes_total", "counter", "Bytes of bodies received.");
  for (const auto& [route, sum] : by_route)
    fmt::format_to(text, "torusml_received_bytes_total{{route=\"{}\"}} {}\n", route, sum.bytes_in);
  begin(text, "sent_bytes_total", "counter", "Bytes of bodies sent.");
  for (const auto& [route, sum] : by_route)
    fmt::format_to(text, "torusml_sent_bytes_total{{route=\"{}\"}} {}\n", route, sum.bytes_out);
  begin(text, "errors_total", "counter", "Errors by code.");
  for (const auto& [code, count] : errors_)
    fmt::format_to(text, "torusml_errors_total{{code=\"{}\"}} {}\n", code, count);
  begin(text, "rate_limited_total", "counter", "Requests beyond their tenant's rate.");
  fmt::format_to(text, "torusml_rate_limited_total {}\n", rate_limited_.load());
  begin(text, "stage_seconds", "summary", "Time of requests for inference by stage.");
  for (std::size_t s = 0; s < stages_.size(); ++s) {
    fmt::format_to(text,
                   "torusml_stage_seconds_sum{{stage=\"{0}\"}} {1}\n"
                   "torusml_stage_seconds_count{{stage=\"{0}\"}} {2}\n",
                   kStageNames[s], stages_[s].seconds, stages_[s].count);
  }
  const auto number = [](auto value) { return static_cast<double>(value); };
  fmt::format_to(text,
                 "# HELP torusml_lookups_total Tables read under encryption.\n"
                 "# TYPE torusml_lookups_total counter\ntorusml_lookups_total {}\n",
                 lookups_.load());
  single(text, "lookups_per_second", "gauge", "Tables read a second, over the last 10 seconds.",
         lookups_per_second());
  single(text, "batches_total", "counter", "Runs of requests together.", number(batches_));
  single(text, "batched_requests_total", "counter", "Requests in these runs.",
         number(batched_requests_));
  single(text, "batched_samples_total", "counter", "Samples in these runs.",
         number(batched_samples_));
  single(text, "queue_length", "gauge", "Requests that wait for a run.", number(gauges.queue));
  single(text, "running_requests", "gauge", "Requests in a run.", number(gauges.running));
  single(text, "jobs_unfinished", "gauge", "Asynchronous jobs that wait or run.",
         number(gauges.jobs));
  single(text, "connections", "gauge", "Open connections.", number(gauges.connections));
  single(text, "models", "gauge", "Models and versions that are served.", number(gauges.models));
  single(text, "prepared_key_bytes", "gauge", "Evaluation keys ready in memory.",
         number(gauges.prepared_key_bytes));
  single(text, "body_bytes", "gauge", "Bodies of requests in memory.", number(gauges.body_bytes));
  single(text, "resident_bytes", "gauge", "Resident memory of the process.",
         number(resident_bytes()));
  return all;
}

}  // namespace torusml
