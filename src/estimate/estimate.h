// What a compiled model will take and give, before there are keys: time on this machine, keys,
// ciphertexts, memory, how near simulated results come to the float network's, and changes that
// would save time.
//
//   Estimate e = estimate_model(graph, calibration, options, model, {.batch = 32});
//   e.one.seconds();                  // of one sample
//   e.seconds_of_batch();             // of 32
//
// Cost: seconds; the run times of lookups are measured (benchmark/run_time.h), each change is
// compiled and simulated (compiler/changes.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "benchmark/run_time.h"
#include "compiler/changes.h"
#include "plan/compiled_model.h"
#include "torusml/progress.h"

namespace torusml {

struct EstimateSettings {
  int batch = 32;
  int threads = 0;  // 0: all
  std::size_t most_changes = 3;
};

struct Estimate {
  RunTime one, batch;  // batch: of as many samples as are worked on together
  int batch_size = 1;
  std::uint64_t input_bytes = 0, output_bytes = 0;  // ciphertexts of one sample
  std::uint64_t output_bytes_batch = 0;
  std::uint64_t memory_bytes_one = 0, memory_bytes_batch = 0;
  Criterion criterion = Criterion::argmax;  // of fidelity (compiler/changes.h)
  std::size_t samples = 0;                  // that fidelity was taken on
  double clear = 0, simulated = 0;          // fidelity to the float network
  std::vector<Change> changes;
  double cost_ms_per_core = 0;  // the model's

  double seconds_of_batch() const {
    return batch.seconds() / static_cast<double>(batch.samples) * batch_size;
  }
  // Of one sample after a change: its predicted cost at this machine's speed.
  double seconds_after(const Change& change) const;
};

// options: those that `model` was compiled with. progress counts steps. Errors: invalid_argument
// (batch), those of evaluate().
Estimate estimate_model(const FloatGraph& graph, const std::vector<Tensor<double>>& calibration,
                        const CompileOptions& options, const CompiledModel& model,
                        const EstimateSettings& settings, const ProgressCallback& progress = {});

}  // namespace torusml
