#include "benchmark/calibrate.h"

#include <algorithm>
#include <chrono>

#include "base/progress.h"
#include "base/threads.h"
#include "benchmark/engine_calls.h"
#include "benchmark/kernels.h"
#include "tfhe/linear.h"
#include "tfhe/secret_keys.h"
#include "torusml/error.h"

namespace torusml {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t kBatch = 16;
constexpr int kRepetitions = 7;
constexpr std::size_t kKeyBytes = std::size_t{48} << 20;  // beyond the last-level cache of one core
constexpr std::size_t kMostSteps = 512, kLeastSteps = 8;
constexpr double kTransforms = 4, kProductsOfOne = 6, kProductsOfThree = 18;

// The least of some repetitions: what an undisturbed machine takes.
template <class Call>
double least_ns(const Call& call) {
  double least = 0;
  for (int i = 0; i < kRepetitions; ++i) {
    const Clock::time_point start = Clock::now();
    call();
    const double ns = std::chrono::duration<double>(Clock::now() - start).count() * 1e9;
    if (i == 0 || ns < least) least = ns;
  }
  return least;
}

TfheParameters step_parameters(std::uint32_t size, std::uint32_t grouping, std::uint32_t bits) {
  TfheParameters p = kernel_parameters();
  p.polynomial_size = {size};
  p.bootstrap = {20, 1};
  p.grouping_factor = grouping;
  p.accumulator_bits = bits;
  const std::size_t step_bytes = std::size_t{p.keys_per_step()} * 4 * size * sizeof(double);
  p.small_dimension = {grouping * static_cast<std::uint32_t>(
                                      std::clamp(kKeyBytes / step_bytes, kLeastSteps, kMostSteps))};
  return p;
}

// Of one ciphertext in one step.
double step_ns(std::uint32_t size, std::uint32_t grouping, std::uint32_t bits) {
  RotationRunner runner(step_parameters(size, grouping, bits), kBatch);
  return least_ns([&] { runner.run(); }) / static_cast<double>(runner.steps() * kBatch);
}

PolynomialCost polynomial_cost(std::uint32_t size) {
  const double one = step_ns(size, 1, 64), three = step_ns(size, 2, 64);
  PolynomialCost cost;
  cost.multiply_ns = std::max(0.0, three - one) / (kProductsOfThree - kProductsOfOne);
  cost.transform_ns = (one - kProductsOfOne * cost.multiply_ns) / kTransforms;
  return cost;
}

double keyswitch_ns() {
  for (const KeyswitchTiming& timing : measure_keys(kernel_parameters()).keyswitch) {
    if (timing.batch == kBatch) return 1 / timing.gmacs;
  }
  throw Error(ErrorCode::internal, "the keyswitch was not measured in a batch");
}

double linear_ns() {
  constexpr std::size_t kRows = 92, kColumns = 92;
  const LweDimension dimension = kernel_parameters().big_dimension();
  std::vector<std::int64_t> weights(kRows * kColumns);
  for (std::size_t i = 0; i < weights.size(); ++i)
    weights[i] = static_cast<std::int64_t>(i % 15) - 7;
  const LweBatch x(dimension, kColumns);
  LweBatch sums(dimension, kRows);
  const DenseMatrix matrix{kRows, kColumns, weights};
  double ns = 0;
  with_threads(1, [&] { ns = least_ns([&] { add_product(matrix, x, sums); }); });
  return ns / static_cast<double>(weights.size() * (dimension.value + 1));
}

}  // namespace

CostTable measure_cost_table(const ProgressCallback& progress) {
  CostTable table;
  ProgressCounter counter(progress, table.polynomials.size());
  for (std::size_t i = 0; i < table.polynomials.size(); ++i) {
    table.polynomials[i] = polynomial_cost(kLeastPolynomialSize << i);
    counter.advance();
  }
  constexpr std::uint32_t kUsual = 2048;
  table.narrow_accumulator = step_ns(kUsual, 2, 32) / step_ns(kUsual, 2, 64);
  table.keyswitch_ns = keyswitch_ns();
  table.linear_ns = linear_ns();
  return table;
}

}  // namespace torusml
