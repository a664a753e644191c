#include "benchmark/kernels.h"

#include <fmt/format.h>

#include <chrono>
#include <cmath>
#include <optional>

#include "base/threads.h"
#include "benchmark/engine_calls.h"
#include "parameters/noise.h"
#include "tfhe/secret_keys.h"
#include "torusml/error.h"

namespace torusml {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kSamples = 25;
constexpr double kSampleSeconds =
    2e-3;  // long enough for the clock, short enough to be undisturbed
constexpr int kSecurityBits = 128;
constexpr int kKeyswitchValueBits = 4;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// Nanoseconds of one call.
template <class Call>
double sample_ns(const Call& call) {
  constexpr int kBurst = 32;
  double busy = 0;
  int calls = 0;
  while (busy < kSampleSeconds) {
    const Clock::time_point start = Clock::now();
    for (int i = 0; i < kBurst; ++i) call();
    busy += seconds_since(start);
    calls += kBurst;
  }
  return busy / calls * 1e9;
}

double transform_operations(PolynomialSize size) {
  const double points = 0.5 * size.value;
  return 5 * points * std::log2(points);
}

double multiply_adds(const TfheParameters& p) {
  return 1.0 * p.big_dimension().value * p.keyswitch.level_count * (p.small_dimension.value + 1);
}

LweBatch make_inputs(const SecretKeys& keys, std::size_t count, SecretGenerator& random) {
  std::vector<Torus> phases(count);
  for (std::size_t c = 0; c < count; ++c) phases[c] = Torus{c} << (64 - kKeyswitchValueBits);
  return expand(encrypt(keys, phases, random));
}

void check_keyswitch(const KeyswitchRunner& runner, const SecretKeys& keys) {
  const auto phases = runner.phases(keys.small());
  constexpr std::uint32_t kHalf = 1u << (31 - kKeyswitchValueBits);
  constexpr std::uint32_t kValues = 1u << kKeyswitchValueBits;
  for (std::size_t c = 0; c < phases.size(); ++c) {
    const std::uint32_t value = (phases[c] + kHalf) >> (32 - kKeyswitchValueBits);
    if (value != c % kValues)
      throw Error(ErrorCode::internal, fmt::format("a keyswitch turned {} into {}", c, value));
  }
}

KeyswitchTiming time_keyswitch(const SecretKeys& secret, const EvaluationKeys& keys,
                               std::size_t batch, SecretGenerator& random) {
  const LweBatch inputs = make_inputs(secret, batch, random);
  KeyswitchRunner runner(keys, inputs);
  runner.run();
  std::vector<double> ns;
  for (int sample = 0; sample < kSamples; ++sample) {
    const Clock::time_point start = Clock::now();
    runner.run();
    ns.push_back(seconds_since(start) * 1e9 / static_cast<double>(batch));
  }
  check_keyswitch(runner, secret);
  const Spread spread = spread_of(std::move(ns));
  return {batch, spread, multiply_adds(secret.parameters) / spread.median};
}

}  // namespace

std::vector<PolynomialSize> transform_sizes() {
  std::vector<PolynomialSize> sizes;
  for (std::uint32_t size = 512; size <= 65536; size *= 2) sizes.push_back({size});
  return sizes;
}

TransformTiming measure_transform(PolynomialSize size) {
  TransformRunner runner(size);
  const double error = runner.round_trip_error();
  if (!(error < 1e-12)) {
    throw Error(
        ErrorCode::internal,
        fmt::format("a transform of {} coefficients is wrong by {:.3g}", size.value, error));
  }
  std::vector<double> forward, inverse;
  for (int sample = 0; sample < kSamples; ++sample) {
    forward.push_back(sample_ns([&] { runner.forward(); }));
    inverse.push_back(sample_ns([&] { runner.inverse(); }));
  }
  TransformTiming timing{size, spread_of(std::move(forward)), spread_of(std::move(inverse))};
  timing.gflops =
      2 * transform_operations(size) / (timing.forward_ns.median + timing.inverse_ns.median);
  return timing;
}

TfheParameters kernel_parameters() {
  TfheParameters p;
  p.small_dimension = {830};
  p.glwe_dimension = {1};
  p.polynomial_size = {2048};
  p.bootstrap = {22, 1};
  p.keyswitch = {3, 5};
  p.small_variance = minimal_variance(p.small_dimension.value, kSecurityBits);
  p.glwe_variance = minimal_variance(p.big_dimension().value, kSecurityBits);
  return p;
}

KeyTiming measure_keys(const TfheParameters& parameters) {
  SecretGenerator random;
  const SecretKeys secret = SecretKeys::generate(parameters, random);
  const SeededEvaluationKeys seeded = make_evaluation_keys(secret, random);
  KeyTiming timing;
  std::optional<EvaluationKeys> keys;
  const Clock::time_point start = Clock::now();
  with_threads(1, [&] { keys = EvaluationKeys::prepare(seeded); });
  timing.prepare_s = seconds_since(start);
  timing.prepared_bytes = keys->bytes();
  for (const std::size_t batch : {1, 16}) {
    timing.keyswitch.push_back(time_keyswitch(secret, *keys, batch, random));
  }
  return timing;
}

}  // namespace torusml
