// precision="auto": the least predicted time at which the simulated circuit still agrees with the
// exact one, on calibration samples that the search did not look at while it chose.
//
//   PrecisionSearch search{.target = {.least_agreement = 0.999}};
//   PrecisionFound found = search_precision(circuit, client, integers, plan_options, search);
//   Plan plan = make_plan(circuit, found.options);
//
// Every lookup and every output gets a policy and a tolerance of its own; those that
// PlanOptions::layers names keep theirs. The search moves along a
// ladder of tolerances, an eighth of a bit a rung, exact at its end: first one rung for all layers,
// then, from there, coarser rungs for as many of the layers as bear them, the least sensitive
// first. How sensitive a layer is, is measured: by a simulation in which it alone is coarser. Many
// layers are moved in kMostParts parts of neighbours. Under shared_results exact is the only
// choice.
//
// Cost: at most max_trials simulations of some thousand samples, and as many plans as rungs and
// parts ask for. Deterministic under a seed, whatever the number of threads.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "circuit/circuit.h"
#include "plan/client_spec.h"
#include "plan/compiled_model.h"
#include "plan/plan.h"
#include "torusml/progress.h"
#include "torusml/tensor.h"

namespace torusml {

// Larger is better. outputs: floats, by output of the model, (samples, shape...); samples: their
// indices in the calibration data.
using Metric = std::function<double(const std::vector<Tensor<double>>& outputs,
                                    const std::vector<std::size_t>& samples)>;

struct PrecisionTarget {
  Criterion criterion = Criterion::automatic;
  double least_agreement = 0.995;     // argmax
  double most_relative_error = 0.01;  // relative_error
  Metric metric;
  double max_loss = 0.01;  // metric: of exact outputs less that of simulated ones
};

struct PrecisionSearch {
  PrecisionTarget target;
  int max_trials = 64;  // simulations
  std::uint64_t seed = 0;
  ProgressCallback progress;  // by trials
};

// Of what a caller gave: a criterion and its limit, one at most; 0 and an empty metric are not
// given. has_search: precision is automatic, or bits are. Errors invalid_argument: several, or a
// target that nothing is searched for.
PrecisionTarget make_target(bool has_search, double agreement, double relative_error, Metric metric,
                            double max_loss);

// Error invalid_argument: one tolerance for all layers beside precision automatic.
void check_own_tolerance(Precision precision, const char* where);

struct PrecisionFound {
  PlanOptions options;    // precision automatic, layers for every lookup and output
  bool is_exact = false;  // all of them exact
  PrecisionReport report;
};

// inputs: integers of the calibration data, by input, (samples, shape...). Under shared_results
// and where there are no lookups there is nothing to judge, and few samples will do. Errors:
// calibration_too_small (says how many samples would do), target_not_met (says the best that was
// found), invalid_argument (target or trials out of range, a metric that gives NaN), and those of
// make_plan that no precision avoids.
PrecisionFound search_precision(const Circuit& circuit, const ClientSpec& client,
                                const std::vector<Tensor<std::int64_t>>& inputs,
                                const PlanOptions& options, const PrecisionSearch& search);

}  // namespace torusml
