#include "estimate/estimate.h"

#include <fmt/format.h>

#include "base/progress.h"
#include "base/threads.h"
#include "plan/wire_size.h"
#include "runtime/memory.h"
#include "torusml/error.h"

namespace torusml {
namespace {

std::uint64_t memory_of(const CompiledModel& model, std::size_t samples, int threads) {
  const std::size_t at_once =
      choose_samples_at_once(model.circuit, model.plan, samples, {.threads = threads});
  return estimate_memory(model.circuit, model.plan, {samples, at_once, threads_used(threads)})
      .total();
}

void set_sizes(const CompiledModel& model, const EstimateSettings& settings, Estimate& estimate) {
  const WireSize size = wire_size(model.circuit, model.plan);
  estimate.input_bytes = size.inputs;
  estimate.output_bytes = size.outputs;
  estimate.output_bytes_batch =
      wire_size(model.circuit, model.plan, static_cast<std::size_t>(settings.batch)).outputs;
  estimate.memory_bytes_one = memory_of(model, 1, settings.threads);
  estimate.memory_bytes_batch =
      memory_of(model, static_cast<std::size_t>(settings.batch), settings.threads);
}

}  // namespace

double Estimate::seconds_after(const Change& change) const {
  return cost_ms_per_core == 0 ? 0 : one.seconds() * change.cost_ms_per_core / cost_ms_per_core;
}

Estimate estimate_model(const FloatGraph& graph, const std::vector<Tensor<double>>& calibration,
                        const CompileOptions& options, const CompiledModel& model,
                        const EstimateSettings& settings, const ProgressCallback& progress) {
  if (settings.batch < 1) {
    throw Error(ErrorCode::invalid_argument,
                fmt::format("a batch of {}; it has at least one sample", settings.batch), "batch");
  }
  ProgressCounter counter(progress, 4);
  Estimate estimate;
  estimate.batch_size = settings.batch;
  estimate.cost_ms_per_core = model.plan.cost_ms_per_core;
  const Fidelity fidelity(graph, calibration);
  estimate.criterion = fidelity.criterion();
  estimate.samples = fidelity.samples();
  estimate.clear = fidelity.of_clear(model);
  estimate.simulated = fidelity.of_simulated(model, options.search.seed);
  counter.advance();
  estimate.one = measure_run_time(model.circuit, model.plan, {1, settings.threads});
  counter.advance();
  const std::size_t at_once =
      choose_samples_at_once(model.circuit, model.plan, static_cast<std::size_t>(settings.batch),
                             {.threads = settings.threads});
  estimate.batch = measure_run_time(model.circuit, model.plan, {at_once, settings.threads});
  set_sizes(model, settings, estimate);
  counter.advance();
  if (settings.most_changes > 0) {
    estimate.changes =
        cheapest_changes(graph, calibration, options, model, fidelity, settings.most_changes);
  }
  counter.advance();
  return estimate;
}

}  // namespace torusml
