// Requests a second of each tenant, as a bucket of tokens: `burst` requests may come at once, and
// one more each 1/rate seconds.
//
//   RateLimit limit(1000, 2000);
//   const double seconds = limit.take("alice", Clock::now());   // 0: let in
//
// Time is the caller's. There are as many buckets as tenants with tokens that came. Thread rule:
// concurrent.
#pragma once

#include <chrono>
#include <map>
#include <mutex>
#include <string>

namespace torusml {

class RateLimit {
 public:
  using Time = std::chrono::steady_clock::time_point;

  // per_second 0: no limit. Otherwise burst is 1 or more.
  RateLimit(double per_second, double burst) : per_second_(per_second), burst_(burst) {}

  // 0 if the request may pass, and is counted; otherwise the seconds until one may.
  double take(const std::string& tenant, Time now);

 private:
  struct Bucket {
    double left;
    Time seen;
  };

  const double per_second_, burst_;
  std::mutex mutex_;
  std::map<std::string, Bucket> buckets_;
};

}  // namespace torusml
