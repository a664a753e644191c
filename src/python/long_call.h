// Long work for a Python caller: without the interpreter lock, with a progress callback, and
// stopped by Ctrl-C.
//
//   return long_call(progress, [&](const ProgressCallback& report) { return run_encrypted(...,
//   report); });
//
// The work runs on a thread of its own while the caller's thread, the only one that Python lets see
// signals, looks after them and calls `progress(done, total)` some times a second. A signal stops
// the work at its next report.
#pragma once

#include <nanobind/nanobind.h>

#include <chrono>
#include <condition_variable>
#include <exception>
#include <functional>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

#include "torusml/progress.h"

namespace torusml::python {

namespace nb = nanobind;

class LongCall {
 public:
  explicit LongCall(nb::object progress) : progress_(std::move(progress)) {}

  // Called with the interpreter lock, by the caller's thread. Throws what Python raised meanwhile.
  void run(const std::function<void(const ProgressCallback&)>& work);

 private:
  void report(std::size_t done, std::size_t total);
  void wait();
  bool look_after_python();

  nb::object progress_;  // None, or progress(done, total)
  std::mutex mutex_;
  std::condition_variable changed_;
  std::size_t done_ = 0, total_ = 0, shown_ = 0;
  bool finished_ = false, cancelled_ = false;
  std::optional<nb::python_error> raised_;
};

template <class Work>
auto long_call(const nb::object& progress, Work&& work) {
  std::optional<decltype(work(ProgressCallback{}))> result;
  LongCall(progress).run([&](const ProgressCallback& report) { result.emplace(work(report)); });
  return std::move(*result);
}

}  // namespace torusml::python
