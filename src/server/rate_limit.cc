#include "server/rate_limit.h"

#include <algorithm>

namespace torusml {

double RateLimit::take(const std::string& tenant, Time now) {
  if (per_second_ == 0) return 0;
  const std::lock_guard lock(mutex_);
  Bucket& bucket = buckets_.try_emplace(tenant, Bucket{burst_, now}).first->second;
  // Threads look at the clock before they come here, in any order.
  const double seconds = std::max(0.0, std::chrono::duration<double>(now - bucket.seen).count());
  bucket.seen = std::max(bucket.seen, now);
  bucket.left = std::min(burst_, bucket.left + seconds * per_second_);
  if (bucket.left < 1) return (1 - bucket.left) / per_second_;
  bucket.left -= 1;
  return 0;
}

}  // namespace torusml
