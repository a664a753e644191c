// What could be changed in a network or its compilation to take less time, each tried: compiled and
// simulated.
//
//   Fidelity fidelity(graph, calibration);
//   double share = fidelity.of_simulated(module, model, 0);
//   std::vector<Change> changes = cheapest_changes(graph, calibration, options, model, fidelity);
//
// Cost: a compilation and a simulation for each change that applies, five at most. Pure functions.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "compiler/quantized_module.h"
#include "importer/float_graph.h"
#include "plan/compiled_model.h"

namespace torusml {

// How near quantized outputs come to those of the float network, on some of the calibration
// samples: for one output of several elements the share of samples with the same largest element,
// otherwise 1 - relative error (root mean square).
class Fidelity {
 public:
  static constexpr std::size_t kMostSamples = 500;

  Fidelity(const FloatGraph& graph, const std::vector<Tensor<double>>& calibration);

  Criterion criterion() const { return criterion_; }
  std::size_t samples() const { return samples_.size(); }
  double of_clear(const CompiledModel& model) const;
  double of_simulated(const CompiledModel& model, std::uint64_t seed) const;

 private:
  double of(const CompiledModel& model, const std::vector<Tensor<std::int64_t>>& integers) const;
  std::vector<Tensor<std::int64_t>> quantized(const CompiledModel& model) const;

  std::vector<std::size_t> samples_;
  std::vector<Tensor<double>> inputs_, expected_;
  Criterion criterion_ = Criterion::argmax;
};

struct Change {
  std::string what;             // "1 bit less for weights and activations (3)"
  double cost_ms_per_core = 0;  // predicted, of one sample
  std::int64_t lookups = 0;
  double fidelity = 0;  // of_simulated
};

// Those that take less time than `model`, the fastest first, `most` of them at most: fewer bits
// (after-training quantization), half of a layer's smallest weights set to 0 for the layer before
// the lookups that take the longest, average pooling moved in front of the activation, a looser
// target (precision "auto"), tolerant lookups in place of exact ones. What cannot be compiled is
// left out.
std::vector<Change> cheapest_changes(const FloatGraph& graph,
                                     const std::vector<Tensor<double>>& calibration,
                                     const CompileOptions& options, const CompiledModel& model,
                                     const Fidelity& fidelity, std::size_t most = 3,
                                     const ProgressCallback& progress = {});

}  // namespace torusml
