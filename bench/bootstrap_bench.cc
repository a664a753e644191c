// Time of the engine's stages at 128-bit parameters: N 2048, n 830, l 1, B 2^23, two key bits a
// step, 32-bit accumulators, keyswitch 5 x 2^3, trace
// 2 x 2^16.
//
//   bootstrap_bench --benchmark_repetitions=5 --benchmark_report_aggregates_only=true
//
// Every bootstrap is decrypted and checked. Counters: ms_per_pbs is wall time of one ciphertext
// times threads; cpu_ms_per_pbs is processor time of one ciphertext, which a busy machine disturbs
// less.
#include <benchmark/benchmark.h>

#include <bit>
#include <cmath>
#include <ctime>
#include <vector>

#include "base/threads.h"
#include "tfhe/bootstrap.h"
#include "tfhe/result_packing.h"
#include "tfhe/secret_keys.h"
#include "tfhe/stages.h"
#include "tfhe/wire_words.h"

namespace torusml {
namespace {

constexpr std::size_t kValues = 32;

double processor_ms() {
  timespec now;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) * 1e3 + static_cast<double>(now.tv_nsec) * 1e-6;
}

double wall_ms() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) * 1e3 + static_cast<double>(now.tv_nsec) * 1e-6;
}

Variance secure_variance(double dimension) {
  return {std::exp2(2 * (-0.025696778711484593 * dimension + 2.675931372549016))};
}

TfheParameters parameters() {
  TfheParameters p;
  p.small_dimension = {830};
  p.glwe_dimension = {1};
  p.polynomial_size = {2048};
  p.bootstrap = {23, 1};
  p.keyswitch = {3, 5};
  p.grouping_factor = 2;
  p.accumulator_bits = 32;
  p.small_variance = secure_variance(830);
  p.glwe_variance = secure_variance(2048);
  p.trace = {16, 2};
  return p;
}

struct Fixture {
  SecretGenerator random;
  SecretKeys secret = SecretKeys::generate(parameters(), random);
  SeededEvaluationKeys seeded = make_evaluation_keys(secret, random);
  EvaluationKeys evaluation = EvaluationKeys::prepare(seeded);
};

Fixture& fixture() {
  static Fixture instance;
  return instance;
}

std::size_t value_of(std::size_t ciphertext) { return ciphertext * 7 % kValues; }
std::size_t function(std::size_t value) { return (value * 5 + 3) % kValues; }

LweBatch make_inputs(std::size_t count) {
  std::vector<Torus> phases(count);
  for (std::size_t c = 0; c < count; ++c) phases[c] = (2 * value_of(c) + 1) << 57;
  return expand(encrypt(fixture().secret, phases, fixture().random));
}

bool right(const LweBatch& outputs) {
  const auto phases = decrypt(fixture().secret, outputs);
  for (std::size_t c = 0; c < phases.size(); ++c) {
    const std::size_t found = (phases[c] + (Torus{1} << 57)) >> 58;
    if (found % kValues != function(value_of(c))) return false;
  }
  return true;
}

// Arguments: ciphertexts, threads, extension_log2.
void bootstrap(benchmark::State& state) {
  const auto count = static_cast<std::size_t>(state.range(0));
  const auto threads = static_cast<int>(state.range(1));
  const auto extension_log2 = static_cast<std::uint32_t>(state.range(2));
  const std::size_t period = std::size_t{2048} << extension_log2;
  std::vector<Torus> table(period);
  for (std::size_t j = 0; j < period; ++j) table[j] = function(j / (period / kValues)) << 58;
  const std::vector<const Torus*> tables(count, table.data());
  const LweBatch inputs = make_inputs(count);
  LweBatch outputs(inputs.dimension, count);
  const double wall = wall_ms(), processor = processor_ms();
  for ([[maybe_unused]] auto _ : state) {
    with_threads(threads, [&] {
      bootstrap_batch(fixture().evaluation, inputs, tables, extension_log2, outputs);
    });
  }
  const double done = static_cast<double>(state.iterations()) * static_cast<double>(count);
  const double cores = std::min<double>(threads, static_cast<double>(count));
  state.counters["ms_per_pbs"] = (wall_ms() - wall) * cores / done;
  state.counters["cpu_ms_per_pbs"] = (processor_ms() - processor) / done;
  if (!right(outputs)) state.SkipWithError("a bootstrap gave a wrong value");
}

// Arguments: values, threads, tables of each value, whether the tables share a rotation or are
// looked up one after the other. Values have 5 bits less those of the tables: these share 2048
// entries.
void several_tables(benchmark::State& state) {
  const auto count = static_cast<std::size_t>(state.range(0));
  const auto threads = static_cast<int>(state.range(1));
  const auto tables = static_cast<std::size_t>(state.range(2));
  const bool is_shared = state.range(3) != 0;
  const std::size_t values = kValues / tables;
  const RotationShape shape{0,
                            is_shared ? static_cast<std::uint32_t>(std::bit_width(tables - 1)) : 0};
  const std::size_t entries = shape.table_size({2048});
  const auto entry = [&](std::size_t table, std::size_t value) {
    return Torus{(value * 5 + 3 + table) % kValues} << 58;
  };
  std::vector<std::vector<Torus>> words(tables, std::vector<Torus>(entries));
  std::vector<LweBatch> outputs;
  std::vector<LweBatch*> rooms;
  std::vector<const Torus*> read;
  for (std::size_t t = 0; t < tables; ++t) {
    for (std::size_t i = 0; i < entries; ++i) words[t][i] = entry(t, i / (entries / values));
    outputs.emplace_back(parameters().big_dimension(), count);
  }
  for (LweBatch& output : outputs) rooms.push_back(&output);
  for (std::size_t c = 0; c < count; ++c) {
    for (const auto& table : words) read.push_back(table.data());
  }
  std::vector<Torus> phases(count);
  const Torus half_box = (Torus{1} << 62) / values;
  for (std::size_t c = 0; c < count; ++c) phases[c] = (2 * (c % values) + 1) * half_box;
  const LweBatch inputs = expand(encrypt(fixture().secret, phases, fixture().random));
  for ([[maybe_unused]] auto _ : state) {
    with_threads(threads, [&] {
      if (is_shared) return bootstrap_batch(fixture().evaluation, inputs, read, shape, rooms);
      for (std::size_t t = 0; t < tables; ++t) {
        const std::vector<const Torus*> alone(count, words[t].data());
        bootstrap_batch(fixture().evaluation, inputs, alone, 0, outputs[t]);
      }
    });
  }
  const double done = static_cast<double>(state.iterations()) * static_cast<double>(count * tables);
  state.counters["tables_per_s"] = benchmark::Counter(done, benchmark::Counter::kIsRate);
  for (std::size_t t = 0; t < tables; ++t) {
    const auto results = decrypt(fixture().secret, outputs[t]);
    for (std::size_t c = 0; c < count; ++c) {
      if ((results[c] + (Torus{1} << 57)) >> 58 != entry(t, c % values) >> 58)
        state.SkipWithError("a table gave a wrong value");
    }
  }
}

void keyswitch(benchmark::State& state) {
  const auto count = static_cast<std::size_t>(state.range(0));
  const auto& keys = fixture().evaluation.state();
  const LweBatch inputs = make_inputs(count);
  std::vector<std::uint32_t> small(count * keys.keyswitch_pitch);
  const double processor = processor_ms();
  for ([[maybe_unused]] auto _ : state) keyswitch_block(keys, inputs, 0, count, small.data());
  state.counters["cpu_ms_per_ciphertext"] = (processor_ms() - processor) /
                                            static_cast<double>(state.iterations()) /
                                            static_cast<double>(count);
  for (std::size_t c = 0; c < count; ++c) {
    const std::uint32_t* row = small.data() + c * keys.keyswitch_pitch;
    std::uint32_t phase = row[keys.small()];
    for (std::size_t i = 0; i < keys.small(); ++i) {
      phase -= row[i] * static_cast<std::uint32_t>(fixture().secret.small()[i]);
    }
    if (phase >> 26 != value_of(c)) state.SkipWithError("a keyswitch gave a wrong value");
  }
}

// Arguments: results, threads.
void packing(benchmark::State& state) {
  const auto count = static_cast<std::size_t>(state.range(0));
  const LweBatch results = make_inputs(count);
  PackedResults packed;
  for ([[maybe_unused]] auto _ : state) {
    with_threads(static_cast<int>(state.range(1)),
                 [&] { packed = pack_results(fixture().evaluation, results, 16); });
  }
  state.counters["bytes"] = static_cast<double>(packed_bytes(packed.words.size(), 16));
  const auto phases = decrypt(fixture().secret, packed);
  for (std::size_t c = 0; c < count; ++c) {
    if (phases[c] >> 58 != value_of(c)) state.SkipWithError("a packed result has a wrong value");
  }
}

void key_generation(benchmark::State& state) {
  for ([[maybe_unused]] auto _ : state) {
    const SecretKeys keys = SecretKeys::generate(parameters(), fixture().random);
    const auto made = make_evaluation_keys(keys, fixture().random);
    if (made.bootstrap_bodies.empty()) state.SkipWithError("no key");
  }
}

void key_preparation(benchmark::State& state) {
  for ([[maybe_unused]] auto _ : state) {
    const EvaluationKeys keys = EvaluationKeys::prepare(fixture().seeded);
    state.counters["MB"] = static_cast<double>(keys.bytes()) * 1e-6;
  }
}

BENCHMARK(bootstrap)
    ->ArgNames({"count", "threads", "extension"})
    ->ArgsProduct({{1, 8, 16}, {1, 2}, {0}})
    ->Args({8, 1, 1})
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();
BENCHMARK(several_tables)
    ->ArgNames({"count", "threads", "tables", "shared"})
    ->ArgsProduct({{8}, {1, 2}, {2, 4}, {0, 1}})
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();
BENCHMARK(keyswitch)->Arg(1)->Arg(8)->Arg(16)->Arg(32)->Unit(benchmark::kMillisecond);
BENCHMARK(packing)
    ->ArgNames({"count", "threads"})
    ->ArgsProduct({{1, 2, 10, 100, 1000, 2048}, {1, 2}})
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();
BENCHMARK(key_generation)->Unit(benchmark::kMillisecond)->UseRealTime();
BENCHMARK(key_preparation)->Unit(benchmark::kMillisecond)->UseRealTime();

}  // namespace
}  // namespace torusml

int main(int argc, char** argv) {
  benchmark::AddCustomContext("instruction set", torusml::current_kernels().target);
  benchmark::AddCustomContext("parameters",
                              "N 2048, k 1, n 830, l 1, B 2^23, 2 bits a step, keyswitch 5 x 2^3");
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
