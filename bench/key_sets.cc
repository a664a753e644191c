// One circuit of 200 lookups of 3 bits and 8 of 8 bits, with one key set and with two.
//
//   key_sets [ROUNDS] [SAMPLES]
//
// Both are measured in turn, round by round, on all threads. Every result is decrypted and compared
// with the circuit in the clear. Prints a JSON line for each, and one of the ratio.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "arguments.h"
#include "artifact/codecs.h"
#include "benchmark/machine.h"
#include "benchmark/spread.h"
#include "circuit/circuit.h"
#include "plan/client_spec.h"
#include "plan/plan.h"
#include "runtime/executors.h"
#include "tfhe/secret_keys.h"
#include "torusml/error.h"

namespace torusml {
namespace {

using Clock = std::chrono::steady_clock;
using Integers = std::vector<Tensor<std::int64_t>>;

constexpr std::int64_t kSmall = 200, kLarge = 8;

// x, a table of 3 bits for each of its elements, sums of 4 results, a table of 8 bits for each.
Circuit mixed_circuit() {
  Circuit circuit;
  circuit.name = "mixed";
  const Interval small{0, 7}, large{0, 4 * 63};
  circuit.values = {{{kSmall}, small}, {{kSmall}, {0, 63}}, {{kLarge}, large}, {{kLarge}, small}};
  Table first{"first", small, 1, {}, {}}, second{"second", large, 1, {}, {}};
  for (std::int64_t v = small.lower; v <= small.upper; ++v)
    first.entries.push_back((5 * v + 3) % 8 * 9);
  for (std::int64_t v = large.lower; v <= large.upper; ++v) second.entries.push_back(v * v % 8);
  const std::int64_t terms = kSmall / kLarge;
  std::vector<std::int64_t> weights(static_cast<std::size_t>(terms), 0);
  std::fill_n(weights.begin(), 4, 1);
  circuit.nodes = {{"x", Input{0}},
                   {"first", Lut{0, {first}, {1}}},
                   {"sums", Linear{{{1, DenseWeight{1, terms, weights}}}, {}, 2}},
                   {"second", Lut{2, {second}, {3}}},
                   {"y", Output{3}}};
  verify(circuit);
  return circuit;
}

Integers make_inputs(std::int64_t samples) {
  Tensor<std::int64_t> x{{samples, kSmall}, {}};
  for (std::int64_t i = 0; i < samples * kSmall; ++i) x.data.push_back(i * i % 8);
  return {std::move(x)};
}

// A plan with its keys and encrypted inputs.
class Candidate {
 public:
  Candidate(const Circuit& circuit, int max_key_sets, const Integers& inputs)
      : circuit_(circuit), plan_(make_plan(circuit, {.max_key_sets = max_key_sets})) {
    SecretGenerator random;
    const std::vector<TfheParameters> key_sets = parameters_of(plan_.key_sets);
    secret_ = SecretKeys::generate(key_sets.front(), random);
    EvaluationKeySet wire;
    for (const TfheParameters& p : key_sets)
      wire.keys.push_back(make_evaluation_keys(secret_, p, random));
    file_bytes_ = to_bytes(wire).size();
    for (const SeededEvaluationKeys& set : wire.keys) keys_.push_back(EvaluationKeys::prepare(set));
    const TensorPlan& tensor = plan_.tensors[0];
    std::vector<Torus> phases;
    for (const std::int64_t v : inputs[0].data)
      phases.push_back(encode(v, tensor.scale, tensor.center));
    inputs_.push_back(expand(encrypt(secret_, phases, random)));
    samples_ = static_cast<double>(inputs[0].shape[0]);
  }

  void run() {
    const Clock::time_point start = Clock::now();
    results_ = run_encrypted(circuit_, plan_, keys_, inputs_);
    const std::chrono::duration<double, std::milli> elapsed = Clock::now() - start;
    ms_.push_back(elapsed.count() / samples_);
  }
  void forget_times() { ms_.clear(); }

  void check(const Integers& expected) const {
    const TensorPlan& tensor = plan_.tensors[3];
    const SecretBuffer<Torus> phases = decrypt(secret_, results_[0]);
    std::size_t wrong = 0;
    for (std::size_t i = 0; i < phases.size(); ++i) {
      const std::int64_t value =
          decode(phases[i], tensor.scale, tensor.center, circuit_.values[3].interval);
      wrong += value == expected[0].data[i] ? 0 : 1;
    }
    if (wrong != 0)
      throw Error(ErrorCode::internal,
                  fmt::format("{} of {} results are wrong", wrong, phases.size()));
  }

  double median_ms() const { return spread_of(ms_).median; }

  nlohmann::ordered_json describe() const {
    const Spread ms = spread_of(ms_);
    std::size_t memory = 0;
    for (const EvaluationKeys& keys : keys_) memory += keys.bytes();
    nlohmann::ordered_json json{{"key_sets", plan_.key_sets.size()},
                                {"names", names_of(plan_.key_sets)},
                                {"lookups", lookups_by_key_set(plan_, circuit_)},
                                {"samples", samples_},
                                {"rounds", ms_.size()},
                                {"ms_per_sample", ms.median},
                                {"ms_per_sample_min", ms.least},
                                {"ms_per_sample_max", ms.most},
                                {"predicted_ms_per_core", plan_.cost_ms_per_core},
                                {"evaluation_key_bytes", file_bytes_},
                                {"key_memory_bytes", memory}};
    return json;
  }

 private:
  const Circuit& circuit_;
  Plan plan_;
  SecretKeys secret_;
  std::vector<EvaluationKeys> keys_;
  std::vector<LweBatch> inputs_, results_;
  std::size_t file_bytes_ = 0;
  double samples_ = 0;
  std::vector<double> ms_;
};

void measure(int rounds, int samples) {
  const Circuit circuit = mixed_circuit();
  const Integers inputs = make_inputs(samples), expected = run_clear(circuit, inputs);
  Candidate one(circuit, 1, inputs), two(circuit, 2, inputs);
  for (Candidate* candidate : {&one, &two}) {
    candidate->run();  // warms up
    candidate->check(expected);
    candidate->forget_times();
  }
  for (int round = 0; round < rounds; ++round) {
    for (Candidate* candidate : {&one, &two}) {
      candidate->run();
      candidate->check(expected);
    }
  }
  const Machine machine = describe_machine();
  for (const Candidate* candidate : {&one, &two}) {
    nlohmann::ordered_json json = candidate->describe();
    json["cpu"] = machine.cpu;
    json["cores"] = machine.cores;
    json["instruction_set"] = machine.instruction_set;
    json["commit"] = machine.commit;
    fmt::print("{}\n", json.dump());
  }
  fmt::print("{}\n", nlohmann::json{{"two_over_one", two.median_ms() / one.median_ms()}}.dump());
}

constexpr const char* kUsage = "key_sets [ROUNDS] [SAMPLES]";

}  // namespace
}  // namespace torusml

int main(int count, char** arguments) {
  try {
    torusml::measure(torusml::argument(count, arguments, 1, 5, torusml::kUsage),
                     torusml::argument(count, arguments, 2, 2, torusml::kUsage));
  } catch (const torusml::Error& error) {
    fmt::print(stderr, "key_sets: {}\n", error.what());
    return 1;
  }
}
