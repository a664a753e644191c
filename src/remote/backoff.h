// When to try again: twice as long after each failure, with chance in it, so that many clients of a
// server that comes back do not come at once.
//
//   Backoff backoff(60);                            // gives up after a minute of failures
//   std::optional<double> wait = backoff.next(2.0);  // the server asked for 2 s
//
// Thread rule: one thread at a time.
#pragma once

#include <chrono>
#include <functional>
#include <optional>
#include <random>

namespace torusml {

class Backoff {
 public:
  using Clock = std::chrono::steady_clock;

  explicit Backoff(double patience_s, std::function<Clock::time_point()> now = Clock::now);

  // Seconds to wait before the next try; at least what the server asked for. nullopt: patience is
  // over, or would be before that.
  std::optional<double> next(std::optional<double> asked_s = {});
  void succeeded();  // patience begins anew at the next failure

 private:
  double patience_s_;
  std::function<Clock::time_point()> now_;
  std::optional<Clock::time_point> first_failure_;
  double delay_s_;
  std::minstd_rand random_;
};

}  // namespace torusml
