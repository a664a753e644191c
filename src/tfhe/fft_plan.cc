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

void add_last_level(const Angles& angles, FftPlan& plan) {
  plan.last_level = AlignedBuffer<double>(6 * angles.size());
  for (std::size_t b = 0; b < angles.size(); ++b) {
    const auto values = twiddles_of(angles[b]);
    double* group = plan.last_level.data() + b / kGroupPoints * 6 * kGroupPoints;
    for (std::size_t t = 0; t < 6; ++t) group[t * kGroupPoints + b % kGroupPoints] = values[t];
  }
}

// Ratios of the roots of eight neighbouring blocks are 64th roots of unity.
void add_monomials(const Angles& angles, FftPlan& plan) {
  const std::size_t turn = 4 * plan.points;  // 2 N
  for (const double w : angles) {
    plan.exponents.push_back(static_cast<std::uint32_t>(w / 4 * static_cast<double>(turn)));
  }
  plan.units = AlignedBuffer<double>(2 * turn);
  for (std::size_t e = 0; e < turn; ++e) {
    const Root unit = root(static_cast<double>(e) / static_cast<double>(turn));
    plan.units[2 * e] = unit.re;
    plan.units[2 * e + 1] = unit.im;
  }
  plan.steps = AlignedBuffer<double>(64 * 2 * kGroupPoints);
  for (std::size_t e = 0; e < 64; ++e) {
    for (std::size_t b = 0; b < kGroupPoints; ++b) {
      const Root step = root(static_cast<double>(e) * (angles[b] - angles[0]) / 4);
      plan.steps[e * 2 * kGroupPoints + b] = step.re;
      plan.steps[e * 2 * kGroupPoints + kGroupPoints + b] = step.im;
    }
  }
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
  add_last_level(angles, *plan);
  add_monomials(angles, *plan);
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
