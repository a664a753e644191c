#include "long_call.h"

namespace torusml::python {
namespace {

struct Cancelled {};

constexpr auto kInterval = std::chrono::milliseconds(50);

}  // namespace

void LongCall::report(std::size_t done, std::size_t total) {
  const std::lock_guard lock(mutex_);
  if (cancelled_) {
    throw Cancelled{};
  }
  done_ = done;
  total_ = total;
}

// With the interpreter lock. False when Python raised: a signal's handler, or the progress
// callback.
bool LongCall::look_after_python() {
  std::size_t done, total;
  {
    const std::lock_guard lock(mutex_);
    done = done_;
    total = total_;
  }
  try {
    if (PyErr_CheckSignals() != 0) {
      throw nb::python_error();
    }
    if (!progress_.is_none() && done != shown_) {
      shown_ = done;
      progress_(done, total);
    }
  } catch (nb::python_error& error) {
    raised_.emplace(std::move(error));
    return false;
  }
  return true;
}

void LongCall::wait() {
  const nb::gil_scoped_release release;
  std::unique_lock lock(mutex_);
  while (!changed_.wait_for(lock, kInterval, [this] { return finished_; })) {
    if (cancelled_) {
      continue;
    }
    lock.unlock();
    bool proceed;
    {
      const nb::gil_scoped_acquire acquire;
      proceed = look_after_python();
    }
    lock.lock();
    cancelled_ = !proceed;
  }
}

void LongCall::run(const std::function<void(const ProgressCallback&)>& work) {
  std::exception_ptr failure;
  std::thread worker([&] {
    try {
      work([this](std::size_t done, std::size_t total) { report(done, total); });
    } catch (...) {
      failure = std::current_exception();
    }
    const std::lock_guard lock(mutex_);
    finished_ = true;
    changed_.notify_all();
  });
  wait();
  {
    const nb::gil_scoped_release release;
    worker.join();
  }
  if (!raised_) {
    look_after_python();  // shows the last state, too
  }
  if (raised_) {
    throw std::move(*raised_);
  }
  if (failure) {
    std::rethrow_exception(failure);
  }
}

}  // namespace torusml::python
