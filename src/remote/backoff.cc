#include "remote/backoff.h"

#include <algorithm>

namespace torusml {
namespace {

constexpr double kFirstDelay = 0.1, kLongestDelay = 5;

}  // namespace

Backoff::Backoff(double patience_s, std::function<Clock::time_point()> now)
    : patience_s_(patience_s),
      now_(std::move(now)),
      delay_s_(kFirstDelay),
      random_(std::random_device{}()) {}

std::optional<double> Backoff::next(std::optional<double> asked_s) {
  const Clock::time_point now = now_();
  if (!first_failure_) first_failure_ = now;
  const double spent = std::chrono::duration<double>(now - *first_failure_).count();
  const double chance = std::uniform_real_distribution(0.5, 1.0)(random_);
  const double wait = std::max(delay_s_ * chance, asked_s.value_or(0));
  delay_s_ = std::min(2 * delay_s_, kLongestDelay);
  if (spent + wait > patience_s_) return std::nullopt;
  return wait;
}

void Backoff::succeeded() {
  first_failure_.reset();
  delay_s_ = kFirstDelay;
}

}  // namespace torusml
