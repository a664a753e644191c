// How often a search has tried something, of the most that it may, shown as progress.
#pragma once

#include <algorithm>
#include <cstddef>

#include "torusml/progress.h"

namespace torusml {

class Trials {
 public:
  // `reserved`: of the most, for judging the finalists.
  Trials(int most, int reserved, const ProgressCallback& progress)
      : most_(most), reserved_(reserved), progress_(progress) {}

  void add() {
    ++count_;
    if (progress_)
      progress_(static_cast<std::size_t>(count_),
                static_cast<std::size_t>(std::max(count_, most_)));
  }
  bool may_try() const { return count_ < most_ - reserved_; }
  int count() const { return count_; }
  std::size_t left() const { return static_cast<std::size_t>(std::max(most_ - count_, 0)); }

 private:
  const int most_, reserved_;
  const ProgressCallback& progress_;
  int count_ = 0;
};

}  // namespace torusml
