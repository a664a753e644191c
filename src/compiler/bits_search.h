// n_bits "auto": bits of weights and activations of every layer, for quantization after training,
// with the least predicted time at which the quantized network still agrees with the float one, on
// calibration samples that were not chosen by.
//
//   BitsFound found = search_bits(graph, calibration, {.request = request, .plan = plan_options});
//   QuantizedModule module = QuantizedModule::build(graph, calibration, found.request);
//
// or, in the course of a compilation, CompileOptions::choose_bits.
//
// One number for all layers first, 8 down to 2. Then a bit less, and another one, for as many
// weights and operands of layers as bear it, the least sensitive first; how sensitive each is, is
// measured. Quantizers are calibrated on all samples. The target is that of precision "auto", here
// between the float and the quantized network in the clear; what noise adds has a budget of its
// own.
//
// Predicted time is that of the plan which the options ask for; under precision "auto" the lesser
// of exact and tolerant. The time of tolerant lookups depends little on bits: where it is the same,
// the fewest errors decide.
//
// Method best is slow, so that bits are chosen under method mse for it. Cost: at most max_trials
// quantizations and clear runs. Deterministic under a seed.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "compiler/precision_search.h"
#include "compiler/rounding.h"
#include "importer/float_graph.h"
#include "quantization/quantized_graph.h"

namespace torusml {

struct BitsSearch {
  QuantizationRequest request;  // bits and layers are what is chosen
  PlanOptions plan;
  PrecisionTarget target;
  double margin = 0.05;
  std::optional<Rounding> rounding;
  std::vector<std::string> clear_inputs;  // names; work on them alone costs nothing
  int max_trials = 64;                    // quantizations
  std::uint64_t seed = 0;
  ProgressCallback progress;  // by trials
};

struct BitsReport {
  struct Layer {
    std::string name;  // of the node
    LayerBits bits;
  };
  Criterion criterion = Criterion::argmax;
  double most_loss = 0;      // asked for
  double loss = 0;           // on the samples held out, of the clear network
  std::int64_t samples = 0;  // held out
  std::int64_t trials = 0;
  QuantizationBits bits;  // of model inputs and outputs, and of layers that have none of their own
  std::vector<Layer> layers;  // all of them, in the order in which they are computed
};

struct BitsFound {
  QuantizationRequest request;
  BitsReport report;
};

// calibration: (samples, shape...) by input. Errors: invalid_argument (a network that brings its
// quantizers, a target or trials out of range), calibration_too_small, target_not_met (says the
// best that was found), and those of QuantizedModule::build that no bits avoid.
BitsFound search_bits(const FloatGraph& graph, const std::vector<Tensor<double>>& calibration,
                      const BitsSearch& search);

}  // namespace torusml
