#include "server/rate_limit.h"

#include <algorithm>

namespace torusml {

double RateLimit::take(const std::string& tenant, Time now) {
  if (per_second_ == 0) return 0;
  const std::lock_guard lock(mutex_);
  if (buckets_.size() >= drop_at_) drop_full(now);
  Bucket& bucket = buckets_.try_emplace(tenant, Bucket{burst_, now}).first->second;
  bucket.left = left_at(bucket, now);
  bucket.seen = std::max(bucket.seen, now);
  if (bucket.left < 1) return (1 - bucket.left) / per_second_;
  bucket.left -= 1;
  return 0;
}

std::size_t RateLimit::buckets() const {
  const std::lock_guard lock(mutex_);
  return buckets_.size();
}

double RateLimit::left_at(const Bucket& bucket, Time now) const {
  // Threads look at the clock before they come here, in any order.
  const double seconds = std::max(0.0, std::chrono::duration<double>(now - bucket.seen).count());
  return std::min(burst_, bucket.left + seconds * per_second_);
}

void RateLimit::drop_full(Time now) {
  std::erase_if(buckets_, [&](const auto& item) { return left_at(item.second, now) >= burst_; });
  drop_at_ = std::max(kFewBuckets, 2 * buckets_.size());
}

}  // namespace torusml
