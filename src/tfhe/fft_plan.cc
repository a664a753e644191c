#include "tfhe/fft_plan.h"

#include <array>
#include <bit>
#include <cmath>
#include <memory>
#include <mutex>
#include <numbers>

namespace torusml {
namespace {

// Angles are fractions of a turn: dyadic, hence exact.
using Angles = std::vector<double>;

struct Root {
  double re, im;
};

Root root(double turns) {
  const long double angle = 2 * std::numbers::pi_v<long double> * static_cast<long double>(turns);
  return {static_cast<double>(std::cos(angle)), static_cast<double>(std::sin(angle))};
}

std::array<double, 6> twiddles_of(double turns) {
  const Root r1 = root(turns / 4), r2 = root(turns / 2), r3 = root(3 * turns / 4);
  return {r1.re, r1.im, r2.re, r2.im, r3.re, r3.im};
}

// Roots of the `ways` factors of each X^m - w.
Angles children(const Angles& parents, int ways) {
  Angles result;
  result.reserve(parents.size() * static_cast<std::size_t>(ways));
  for (const double w : parents) {
    for (int s = 0; s < ways; ++s) result.push_back(std::fmod((w + s) / ways, 1.0));
  }
  return result;
}

std::unique_ptr<FftPlan> make_plan(std::size_t points) {
  auto plan = std::make_unique<FftPlan>();
  plan->points = points;
  Angles angles = {0.25};  // of i
  std::size_t block = points;
  plan->has_head = std::countr_zero(points) % 2 == 1;
  if (plan->has_head) {
    const Root head = root(angles[0] / 2);
    plan->head_re = head.re;
    plan->head_im = head.im;
    angles = children(angles, 2);
    block /= 2;
  }
  for (; block > 4; block /= 4) {
    FftPlan::Level level{block, AlignedBuffer<double>(6 * angles.size())};
    for (std::size_t b = 0; b < angles.size(); ++b) {
      const auto values = twiddles_of(angles[b]);
      std::copy(values.begin(), values.end(), level.twiddles.data() + 6 * b);
    }
    plan->levels.push_back(std::move(level));
    angles = children(angles, 4);
  }
  plan->last_level = AlignedBuffer<double>(6 * angles.size());
  for (std::size_t b = 0; b < angles.size(); ++b) {
    const auto values = twiddles_of(angles[b]);
    for (std::size_t t = 0; t < 6; ++t) plan->last_level[t * angles.size() + b] = values[t];
  }
  return plan;
}

}  // namespace

const FftPlan& fft_plan(PolynomialSize size) {
  static std::mutex mutex;
  static std::array<std::unique_ptr<FftPlan>, 32> plans;
  std::lock_guard lock(mutex);
  auto& plan = plans[static_cast<std::size_t>(std::countr_zero(size.value))];
  if (!plan) plan = make_plan(size.value / 2);
  return *plan;
}

}  // namespace torusml
