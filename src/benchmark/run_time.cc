#include "benchmark/run_time.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <memory>
#include <optional>
#include <tuple>
#include <vector>

#include "base/progress.h"
#include "base/threads.h"
#include "parameters/cost.h"
#include "random/generator.h"
#include "runtime/lookup_table.h"
#include "tfhe/bootstrap.h"
#include "tfhe/secret_keys.h"
#include "tfhe/wide_lookup.h"

namespace torusml {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t kLeastValuesPerThread = 16;  // of a measurement, where the layer has them

// Lookups that take the same time.
struct Kind {
  std::size_t key_set = 0;
  RotationShape rotation;
  WideShape wide;
  std::size_t tables = 1, values = 1;

  auto key() const {
    return std::tuple(key_set, rotation.extension_log2, rotation.tables_log2, wide.index_bits,
                      wide.bits_per_rotation, wide.digit_bits, wide.digit_count, tables, values);
  }
  friend bool operator<(const Kind& a, const Kind& b) { return a.key() < b.key(); }
};

double predicted_ms(const Plan& plan, const Kind& kind) {
  const TfheParameters& p = plan.key_sets[kind.key_set].parameters;
  const CostTable& table = plan.options.cost_table;
  return kind.wide.index_bits != 0 ? wide_lookup_ms(p, kind.wide, table, kind.tables)
                                   : lookup_ms(p, kind.rotation, kind.tables, table);
}

// Times do not depend on what ciphertexts hold; masks are spread as those of real ones.
LweBatch spread_ciphertexts(LweDimension dimension, std::size_t count) {
  LweBatch batch(dimension, count);
  std::uint64_t word = 0x9e3779b97f4a7c15;
  for (Torus& torus : batch.words) torus = word = word * 6364136223846793005 + 1442695040888963407;
  return batch;
}

class LookupTimer {
 public:
  LookupTimer(const Circuit& circuit, const Plan& plan, int threads)
      : circuit_(circuit), plan_(plan), threads_(threads), keys_(plan.key_sets.size()) {}

  // Of all values of a node of this kind.
  double seconds(const Kind& kind, std::size_t node) {
    const double affordable = kMeasureSeconds * threads_ / (predicted_ms(plan_, kind) / 1000);
    const std::size_t least = kLeastValuesPerThread * static_cast<std::size_t>(threads_);
    const std::size_t measured =
        std::min(kind.values, std::max(least, static_cast<std::size_t>(affordable)));
    const Lut& lut = std::get<Lut>(circuit_.nodes[node].op);
    const LweBatch inputs = spread_ciphertexts(plan_.big_dimension(), measured);
    std::vector<LweBatch> outputs(kind.tables, LweBatch(plan_.big_dimension(), measured));
    std::vector<LweBatch*> results;
    for (LweBatch& output : outputs) results.push_back(&output);
    const double once = kind.wide.index_bits != 0
                            ? time_wide(kind, lut, inputs, results)
                            : time_rotations(kind, lut, node, inputs, results);
    return once * static_cast<double>(kind.values) / static_cast<double>(measured);
  }

 private:
  const EvaluationKeys& keys(std::size_t set) {
    if (!keys_[set]) {
      SecretGenerator random;
      const SecretKeys secret = SecretKeys::generate(plan_.key_sets[set].parameters, random);
      keys_[set].emplace(EvaluationKeys::prepare(make_evaluation_keys(secret, random)));
    }
    return *keys_[set];
  }

  // The faster of two, after one to warm up.
  double fastest(const std::function<void()>& work) const {
    double best = 0;
    for (int round = 0; round < 3; ++round) {
      const Clock::time_point start = Clock::now();
      with_threads(threads_, work);
      const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
      if (round > 0) best = round == 1 ? seconds : std::min(best, seconds);
    }
    return best;
  }

  double time_rotations(const Kind& kind, const Lut& lut, std::size_t node, const LweBatch& inputs,
                        const std::vector<LweBatch*>& results) {
    const std::vector<TorusTable> tables = make_torus_tables(lut, plan_, plan_.lookups.at(node));
    const auto elements =
        static_cast<std::size_t>(number_of_elements(circuit_.values[lut.operand].shape));
    std::vector<const Torus*> read;
    for (std::size_t i = 0; i < inputs.count; ++i) {
      for (const TorusTable& table : tables) read.push_back(table.of_element(i % elements));
    }
    const EvaluationKeys& prepared = keys(kind.key_set);
    return fastest([&] { bootstrap_batch(prepared, inputs, read, kind.rotation, results); });
  }

  double time_wide(const Kind& kind, const Lut& lut, const LweBatch& inputs,
                   const std::vector<LweBatch*>& results) {
    const EvaluationKeys& prepared = keys(kind.key_set);
    std::vector<std::vector<WideTable>> tables;
    for (std::size_t t = 0; t < lut.tables.size(); ++t) {
      tables.push_back(make_wide_tables(lut.tables[t], circuit_.values[lut.operand].interval,
                                        plan_.tensors[lut.results[t]], kind.wide,
                                        prepared.parameters().polynomial_size));
    }
    std::vector<const WideTable*> read;
    for (std::size_t i = 0; i < inputs.count; ++i) {
      for (const std::vector<WideTable>& rows : tables) read.push_back(&rows.front());
    }
    return fastest([&] { wide_lookup_batch(prepared, inputs, read, results); });
  }

  const Circuit& circuit_;
  const Plan& plan_;
  const int threads_;
  std::vector<std::optional<EvaluationKeys>> keys_;
};

Kind kind_of(const Circuit& circuit, std::size_t node, const LookupPlan& lookup,
             std::size_t samples) {
  const Lut& lut = std::get<Lut>(circuit.nodes[node].op);
  const auto elements =
      static_cast<std::size_t>(number_of_elements(circuit.values[lut.operand].shape));
  return {lookup.key_set, lookup.rotation, lookup.wide, lut.tables.size(), elements * samples};
}

}  // namespace

double RunTime::seconds() const {
  double total = linear_seconds;
  for (const auto& [node, layer] : layers) total += layer.seconds;
  return total;
}

RunTime measure_run_time(const Circuit& circuit, const Plan& plan, const RunTimeSettings& settings,
                         const ProgressCallback& progress) {
  RunTime time{.samples = settings.samples, .threads = threads_used(settings.threads)};
  LookupTimer timer(circuit, plan, time.threads);
  std::map<Kind, std::vector<std::size_t>> kinds;
  for (const auto& [node, lookup] : plan.lookups)
    kinds[kind_of(circuit, node, lookup, settings.samples)].push_back(node);
  ProgressCounter counter(progress, kinds.size());
  double measured = 0, predicted = 0;
  for (const auto& [kind, nodes] : kinds) {
    const double seconds = timer.seconds(kind, nodes.front());
    for (const std::size_t node : nodes) {
      time.layers[node] = {static_cast<std::int64_t>(kind.values), seconds};
      measured += seconds;
      predicted += predicted_ms(plan, kind) / 1000 * static_cast<double>(kind.values);
    }
    counter.advance();
  }
  const double linear =
      linear_ms(plan.key_sets.front().parameters,
                static_cast<double>(linear_multiplications(circuit)), plan.options.cost_table) /
      1000 * static_cast<double>(settings.samples);
  time.linear_seconds = linear * (predicted == 0 ? 1.0 / time.threads : measured / predicted);
  return time;
}

double seconds_on_cores(const RunTime& time, int cores) {
  double total = time.linear_seconds * time.threads / cores;
  for (const auto& [node, layer] : time.layers) {
    const double of_one = layer.seconds * time.threads / static_cast<double>(layer.values);
    const double turns = std::ceil(static_cast<double>(layer.values) / cores);
    total += of_one * turns;
  }
  return total;
}

}  // namespace torusml
