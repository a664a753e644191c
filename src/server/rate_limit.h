// Requests a second of each tenant, as a bucket of tokens: `burst` requests may come at once, and
// one more each 1/rate seconds.
//
//   RateLimit limit(1000, 2000);
//   const double seconds = limit.take("alice", Clock::now());   // 0: let in
//
// Time is the caller's. Buckets that are full again are as good as none, and go once there are
// twice as many as were left the last time. Thread rule: concurrent. Cost: O(log buckets), on
// average.
#pragma once

#include <chrono>
#include <cstddef>
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

  std::size_t buckets() const;

 private:
  static constexpr std::size_t kFewBuckets = 64;

  struct Bucket {
    double left;
    Time seen;
  };

  double left_at(const Bucket& bucket, Time now) const;
  void drop_full(Time now);

  const double per_second_, burst_;
  mutable std::mutex mutex_;
  std::map<std::string, Bucket> buckets_;
  std::size_t drop_at_ = kFewBuckets;  // buckets
};

}  // namespace torusml
