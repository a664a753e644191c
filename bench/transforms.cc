// Forward and inverse transform of our polynomials beside FFTW's complex transform of the same
// length, on one core, in turn.
//
//   transforms [--rounds 200] [SIZE...]     # polynomial sizes; 2048 unless given
//
// FFTW plans with FFTW_PATIENT, in place and out of place; the faster of the two is its figure. One
// sample is a burst of pairs, forward and inverse; a round takes one sample of each candidate, and
// medians over rounds are compared. FFTW's pair leaves out the negacyclic twist, ours contains it.
// Prints one JSON object a line for each size.
#include <fftw3.h>
#include <fmt/format.h>

#include <chrono>
#include <cmath>
#include <cstdlib>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/memory.h"
#include "benchmark/engine_calls.h"
#include "benchmark/machine.h"
#include "benchmark/spread.h"
#include "torusml/error.h"

namespace torusml {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kWarmUpRounds = 5;
// A pair multiplies values by the length, so bursts start from tiny numbers.
constexpr int kPairs = 32;
constexpr double kTiny = 0x1p-900;

struct PlanDeleter {
  void operator()(fftw_plan plan) const { fftw_destroy_plan(plan); }
};
using FftwPlan = std::unique_ptr<std::remove_pointer_t<fftw_plan>, PlanDeleter>;

// Forward and backward transform of `points` complex numbers by FFTW.
class FftwRunner {
 public:
  FftwRunner(std::size_t points, bool in_place)
      : points_(points), values_(2 * points), transformed_(in_place ? 0 : 2 * points) {
    fftw_complex* values = reinterpret_cast<fftw_complex*>(values_.data());
    fftw_complex* other = in_place ? values : reinterpret_cast<fftw_complex*>(transformed_.data());
    const int length = static_cast<int>(points);
    forward_.reset(fftw_plan_dft_1d(length, values, other, FFTW_FORWARD, FFTW_PATIENT));
    backward_.reset(fftw_plan_dft_1d(length, other, values, FFTW_BACKWARD, FFTW_PATIENT));
    if (!forward_ || !backward_) throw Error(ErrorCode::internal, "FFTW made no plan");
    refill();
  }

  void refill() {
    for (std::size_t j = 0; j < values_.size(); ++j) values_[j] = kTiny * original(j);
  }

  void pair() {
    fftw_execute(forward_.get());
    fftw_execute(backward_.get());
  }

  double round_trip_error() {
    refill();
    pair();
    double largest = 0;
    for (std::size_t j = 0; j < values_.size(); ++j) {
      const double value = values_[j] / kTiny / static_cast<double>(points_);
      largest = std::max(largest, std::abs(value - original(j)) / 512);
    }
    return largest;
  }

 private:
  static double original(std::size_t j) {
    return static_cast<double>(j * 2654435761u % 1024) - 511.5;
  }

  std::size_t points_;
  AlignedBuffer<double> values_, transformed_;
  FftwPlan forward_, backward_;
};

struct Candidate {
  std::string name;
  std::function<void()> refill, pair;
  std::vector<double> ns;  // of one pair, by round
};

void sample(Candidate& candidate) {
  candidate.refill();
  const Clock::time_point start = Clock::now();
  for (int i = 0; i < kPairs; ++i) candidate.pair();
  const std::chrono::duration<double, std::nano> elapsed = Clock::now() - start;
  candidate.ns.push_back(elapsed.count() / kPairs);
}

void check_error(const std::string& name, double error) {
  if (error < 1e-12) return;
  throw Error(ErrorCode::internal, fmt::format("{} is wrong by {:.3g}", name, error));
}

nlohmann::ordered_json compare(std::uint32_t size, int rounds) {
  const std::size_t points = size / 2;
  TransformRunner ours({size});
  FftwRunner in_place(points, true), out_of_place(points, false);
  check_error("our transform", ours.round_trip_error());
  check_error("FFTW in place", in_place.round_trip_error());
  check_error("FFTW out of place", out_of_place.round_trip_error());
  const auto ours_pair = [&] {
    ours.forward();
    ours.inverse();
  };
  std::vector<Candidate> candidates{
      {"torusml", [] {}, ours_pair, {}},
      {"in place", [&] { in_place.refill(); }, [&] { in_place.pair(); }, {}},
      {"out of place", [&] { out_of_place.refill(); }, [&] { out_of_place.pair(); }, {}}};
  for (int round = 0; round < kWarmUpRounds; ++round) {
    for (Candidate& candidate : candidates) sample(candidate);
  }
  for (Candidate& candidate : candidates) candidate.ns.clear();
  for (int round = 0; round < rounds; ++round) {
    for (Candidate& candidate : candidates) sample(candidate);
  }
  std::vector<double> medians;
  for (Candidate& candidate : candidates) medians.push_back(spread_of(candidate.ns).median);
  const std::size_t faster = medians[1] <= medians[2] ? 1 : 2;
  return {{"polynomial_size", size},
          {"complex_length", points},
          {"rounds", rounds},
          {"torusml_pair_ns", medians[0]},
          {"fftw_pair_ns", medians[faster]},
          {"fftw_placement", candidates[faster].name},
          {"fftw_in_place_ns", medians[1]},
          {"fftw_out_of_place_ns", medians[2]},
          {"fftw_over_torusml", medians[faster] / medians[0]}};
}

int positive(const char* text) {
  char* end = nullptr;
  const long value = std::strtol(text, &end, 10);
  if (*text == '\0' || *end != '\0' || value < 1 || value > 1'000'000)
    throw Error(ErrorCode::invalid_argument, fmt::format("'{}' is no positive number", text));
  return static_cast<int>(value);
}

std::uint32_t polynomial_size(const char* text) {
  const int size = positive(text);
  if (size >= 32 && size <= 65536 && (size & (size - 1)) == 0)
    return static_cast<std::uint32_t>(size);
  throw Error(ErrorCode::invalid_argument,
              fmt::format("polynomial size {} is no power of two from 32 to 65536", size));
}

void run(int count, char** arguments) {
  int rounds = 200;
  std::vector<std::uint32_t> sizes;
  for (int i = 1; i < count; ++i) {
    if (std::string(arguments[i]) == "--rounds" && i + 1 < count) {
      rounds = positive(arguments[++i]);
    } else {
      sizes.push_back(polynomial_size(arguments[i]));
    }
  }
  if (sizes.empty()) sizes.push_back(2048);
  const Machine machine = describe_machine();
  for (const std::uint32_t size : sizes) {
    nlohmann::ordered_json line{{"system", "torusml"},
                                {"cpu", machine.cpu},
                                {"instruction_set", machine.instruction_set},
                                {"fftw", std::string(fftw_version)}};
    line.update(compare(size, rounds));
    fmt::print("{}\n", line.dump());
  }
}

}  // namespace
}  // namespace torusml

int main(int count, char** arguments) {
  try {
    torusml::run(count, arguments);
  } catch (const std::exception& error) {
    fmt::print(stderr, "transforms: {}\n", error.what());
    return 1;
  }
  return 0;
}
