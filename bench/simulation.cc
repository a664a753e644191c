// The simulator on two networks: fully connected layers 784-128-128-10, and two convolutions of
// 2,000 lookups together.
//
//   simulation [ROUNDS] [SAMPLES]
//
// On all threads; each network without and with counts of flips, in turn. Checked: the same under
// both, the first samples the same when they run alone, and of the exact convolutions every result
// that of the circuit in the clear. Prints a JSON line for each.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "arguments.h"
#include "base/threads.h"
#include "benchmark/machine.h"
#include "benchmark/spread.h"
#include "circuit/circuit.h"
#include "plan/plan.h"
#include "runtime/executors.h"
#include "torusml/error.h"

namespace torusml {
namespace {

using Clock = std::chrono::steady_clock;
using Integers = std::vector<Tensor<std::int64_t>>;

constexpr Interval kActivation{0, 3};
constexpr std::int64_t kLargestWeight = 1;

// Adds layers to a circuit, one after the other.
class Builder {
 public:
  Builder(const std::string& name, Shape shape) {
    circuit_.name = name;
    circuit_.values.push_back({std::move(shape), kActivation});
    circuit_.nodes.push_back({"x", Input{0}});
  }

  std::int64_t weight() {
    return std::uniform_int_distribution<std::int64_t>(-kLargestWeight, kLargestWeight)(random_);
  }

  void dense(std::int64_t results) {
    DenseWeight weight{results, number_of_elements(circuit_.values.back().shape), {}};
    for (std::int64_t i = 0; i < weight.rows * weight.columns; ++i)
      weight.data.push_back(this->weight());
    linear({results}, std::move(weight));
  }

  // 3 x 3 kernels over (channels, size, size), without padding.
  void convolution(std::int64_t channels, std::int64_t stride) {
    const Shape from = circuit_.values.back().shape;
    const std::int64_t size = (from[1] - 3) / stride + 1;
    std::vector<std::int64_t> kernels;
    for (std::int64_t i = 0; i < channels * from[0] * 9; ++i) kernels.push_back(weight());
    SparseRows sparse(number_of_elements(from));
    for (std::int64_t row = 0; row < channels * size * size; ++row) {
      const std::int64_t channel = row / (size * size), y = row / size % size, x = row % size;
      for (std::int64_t tap = 0; tap < from[0] * 9; ++tap) {
        const std::int64_t value = kernels[static_cast<std::size_t>(channel * from[0] * 9 + tap)];
        if (value == 0) continue;
        sparse.add((tap / 9 * from[1] + y * stride + tap / 3 % 3) * from[2] + x * stride + tap % 3,
                   value);
      }
      sparse.end_row();
    }
    linear({channels, size, size}, sparse.finish());
  }

  // A rectifier to two bits.
  void activation() {
    const TensorType type = circuit_.values.back();
    Table table{"relu" + std::to_string(circuit_.nodes.size()), type.interval, 1, {}, {}};
    for (std::int64_t v = type.interval.lower; v <= type.interval.upper; ++v)
      table.entries.push_back(std::clamp<std::int64_t>(8 * v / type.interval.upper, 0, 3));
    const auto operand = static_cast<ValueId>(circuit_.values.size() - 1);
    circuit_.values.push_back({type.shape, kActivation});
    circuit_.nodes.push_back({table.name, Lut{operand, {table}, {operand + 1}}});
  }

  Circuit finish() {
    const auto last = static_cast<ValueId>(circuit_.values.size() - 1);
    circuit_.nodes.push_back({"y", Output{last}});
    verify(circuit_);
    return circuit_;
  }

 private:
  // The interval is what the weights can reach.
  void linear(Shape shape, Weight weight) {
    const auto operand = static_cast<ValueId>(circuit_.values.size() - 1);
    circuit_.values.push_back({std::move(shape), {-1, 1}});
    circuit_.nodes.push_back({"layer" + std::to_string(circuit_.nodes.size()),
                              Linear{{{operand, std::move(weight)}}, {}, operand + 1}});
    circuit_.values.back().interval = guaranteed_intervals(circuit_).back();
  }

  Circuit circuit_;
  std::mt19937_64 random_{1};
};

Circuit fully_connected() {
  Builder builder("784-128-128-10", {784});
  builder.dense(128);
  builder.activation();
  builder.dense(128);
  builder.activation();
  builder.dense(10);
  return builder.finish();
}

Circuit convolutions() {
  Builder builder("convolutions", {1, 20, 20});
  builder.convolution(4, 1);
  builder.activation();
  builder.convolution(11, 2);
  builder.activation();
  builder.dense(10);
  return builder.finish();
}

Integers make_inputs(const Circuit& circuit, std::int64_t samples) {
  Shape shape = circuit.values[0].shape;
  shape.insert(shape.begin(), samples);
  Tensor<std::int64_t> x{shape, {}};
  std::mt19937_64 random(2);
  for (std::int64_t i = 0; i < number_of_elements(shape); ++i)
    x.data.push_back(std::uniform_int_distribution<std::int64_t>(0, kActivation.upper)(random));
  return {std::move(x)};
}

void expect_equal(const Integers& results, const Integers& expected, const char* what) {
  for (std::size_t i = 0; i < results[0].data.size(); ++i) {
    if (results[0].data[i] != expected[0].data[i])
      throw Error(ErrorCode::internal, fmt::format("result {} is not that {}", i, what));
  }
}

void measure(const Circuit& circuit, Precision precision, int rounds, int samples) {
  const Plan plan = make_plan(circuit, {.precision = precision});
  const Integers inputs = make_inputs(circuit, samples);
  std::vector<double> seconds, counting;
  const auto run = [&](std::vector<double>& times, FlipCounts* flips) {
    const Clock::time_point start = Clock::now();
    Integers results = run_simulated(circuit, plan, inputs, 1, {}, flips);
    times.push_back(std::chrono::duration<double>(Clock::now() - start).count());
    return results;
  };
  const Integers expected = run(seconds, nullptr);
  if (precision == Precision::exact)
    expect_equal(expected, run_clear(circuit, inputs), "of the circuit in the clear");
  expect_equal(run_simulated(circuit, plan, make_inputs(circuit, 3), 1), expected,
               "of the whole batch");
  seconds.clear();
  FlipCounts flips;
  for (int round = 0; round < rounds; ++round) {
    expect_equal(run(seconds, nullptr), expected, "of the round before");
    expect_equal(run(counting, &flips), expected, "of the run that counts no flips");
  }
  const Spread spread = spread_of(seconds);
  const double lookups = static_cast<double>(plan.lookup_count) * samples;
  const LookupCounts counts = total(flips);
  const Machine machine = describe_machine();
  const nlohmann::ordered_json json{{"network", circuit.name},
                                    {"precision", to_string(precision)},
                                    {"samples", samples},
                                    {"lookups_per_sample", plan.lookup_count},
                                    {"products_per_sample", linear_multiplications(circuit)},
                                    {"threads", available_threads()},
                                    {"rounds", rounds},
                                    {"s", spread.median},
                                    {"s_min", spread.least},
                                    {"s_max", spread.most},
                                    {"samples_per_s", samples / spread.median},
                                    {"lookups_per_s", lookups / spread.median},
                                    {"s_counting_flips", spread_of(counting).median},
                                    {"flip_rate", counts.flip_rate()},
                                    {"far_rate", counts.far_rate()},
                                    {"cpu", machine.cpu},
                                    {"instruction_set", machine.instruction_set},
                                    {"commit", machine.commit}};
  fmt::print("{}\n", json.dump());
}

constexpr const char* kUsage = "simulation [ROUNDS] [SAMPLES]";

}  // namespace
}  // namespace torusml

int main(int count, char** arguments) {
  try {
    const int rounds = torusml::argument(count, arguments, 1, 3, torusml::kUsage);
    const int samples = std::max(3, torusml::argument(count, arguments, 2, 10000, torusml::kUsage));
    torusml::measure(torusml::fully_connected(), torusml::Precision::tolerant, rounds, samples);
    torusml::measure(torusml::convolutions(), torusml::Precision::exact, rounds, samples);
    torusml::measure(torusml::convolutions(), torusml::Precision::tolerant, rounds, samples);
  } catch (const torusml::Error& error) {
    fmt::print(stderr, "simulation: {}\n", error.what());
    return 1;
  }
}
