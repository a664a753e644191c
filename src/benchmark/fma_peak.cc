#include "benchmark/fma_peak.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <vector>

#include "tfhe/kernels.h"
#include "torusml/error.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "benchmark/fma_peak.cc"
#include "hwy/foreach_target.h"
// foreach_target must come first.
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace torusml::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

// Independent chains, so that no multiply-add waits for another: latency times units of the cores
// in use, as far as the registers reach.
constexpr std::size_t kChains = HWY_ARCH_ARM_A64 ? 24 : 12;

// x = x * factor + addend in every lane of every chain, `iterations` times; `lanes` has room for
// kChains vectors, which start and end there. Returns the operations done.
double multiply_add(std::size_t iterations, double factor, double addend, double* lanes) {
  const hn::CappedTag<double, 8> d;
  const auto a = hn::Set(d, factor), b = hn::Set(d, addend);
  hn::Vec<decltype(d)> x[kChains];
  for (std::size_t c = 0; c < kChains; ++c) x[c] = hn::LoadU(d, lanes + c * hn::Lanes(d));
  for (std::size_t i = 0; i < iterations; ++i) {
    for (std::size_t c = 0; c < kChains; ++c) x[c] = hn::MulAdd(x[c], a, b);
  }
  for (std::size_t c = 0; c < kChains; ++c) hn::StoreU(x[c], d, lanes + c * hn::Lanes(d));
  return 2.0 * static_cast<double>(iterations * kChains * hn::Lanes(d));
}

}  // namespace torusml::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace torusml {
namespace {

HWY_EXPORT(multiply_add);

constexpr std::size_t kLargestLanes = 24 * 8;
constexpr std::size_t kIterations = 200'000;
constexpr int kRuns = 20;

// Every chain tends to addend / (1 - factor); a dropped or shortened loop would not get there.
constexpr double kFactor = 1 - 0x1p-12, kAddend = 0x1p-12, kLimit = 1;

}  // namespace

double measure_fma_peak() {
  current_kernels();  // chooses the instruction set
  std::vector<double> lanes(kLargestLanes);
  double best = 0;
  for (int run = 0; run < kRuns; ++run) {
    for (std::size_t j = 0; j < lanes.size(); ++j) lanes[j] = static_cast<double>(j) + 2;
    const auto start = std::chrono::steady_clock::now();
    const double operations =
        HWY_DYNAMIC_DISPATCH(multiply_add)(kIterations, kFactor, kAddend, lanes.data());
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
    best = std::max(best, operations / elapsed.count() * 1e-9);
    if (!(std::abs(lanes[0] - kLimit) < 1e-9))
      throw Error(ErrorCode::internal,
                  fmt::format("the multiply-add loop ended at {}, not at {}", lanes[0], kLimit));
  }
  return best;
}

}  // namespace torusml
#endif
