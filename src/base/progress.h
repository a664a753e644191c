// Counts finished units from many threads and reports them in order to a ProgressCallback.
#pragma once

#include <mutex>

#include "torusml/progress.h"

namespace torusml {

class ProgressCounter {
 public:
  ProgressCounter(ProgressCallback callback, std::size_t total)
      : callback_(std::move(callback)), total_(total) {}

  void advance(std::size_t units = 1) {
    if (!callback_) return;
    std::lock_guard lock(mutex_);
    done_ += units;
    callback_(done_, total_);
  }

 private:
  ProgressCallback callback_;
  std::size_t total_;
  std::size_t done_ = 0;
  std::mutex mutex_;
};

}  // namespace torusml
