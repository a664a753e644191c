// A progress bar on stderr; nothing when stderr is not a terminal.
//
//   ProgressBar bar("bootstraps");
//   server.run(inputs, bar.callback());   // [########------------] 41 %, 5 s left
//
// Thread rule: the callback is called by one thread at a time, as ProgressCallback says.
#pragma once

#include <chrono>
#include <string>

#include "torusml/progress.h"

namespace torusml {

class ProgressBar {
 public:
  explicit ProgressBar(std::string label);
  ~ProgressBar();  // clears the line
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  // Empty when stderr is not a terminal. The bar must outlive the work.
  ProgressCallback callback();

 private:
  using Clock = std::chrono::steady_clock;

  void show(std::size_t done, std::size_t total);

  std::string label_;
  bool enabled_ = false, drawn_ = false;
  Clock::time_point start_, last_;
};

}  // namespace torusml
