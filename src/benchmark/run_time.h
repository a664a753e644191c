// How long a plan's encrypted run takes on this machine, before there are keys: some lookups of
// each kind are timed under keys that are thrown away.
//
//   RunTime time = measure_run_time(circuit, plan, {.samples = 1});
//   time.seconds();                       // of one sample, all threads
//   time.layers.at(node).seconds;         // of one layer's lookups
//   seconds_on_cores(time, 16);           // on a machine with so many cores like these
//
// Lookups of one kind (key set, shape, tables, values in a call) are timed once, in batches as the
// run has them but of about kMeasureSeconds at most. Linear layers count as the cost model says,
// scaled by how much slower or faster than it says lookups are. Cost: key generation and about
// kMeasureSeconds for each kind. Thread rule: runs one measurement at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>

#include "circuit/circuit.h"
#include "plan/plan.h"
#include "torusml/progress.h"

namespace torusml {

inline constexpr double kMeasureSeconds = 0.7;

struct RunTimeSettings {
  std::size_t samples = 1;  // worked on together
  int threads = 0;          // 0: all
};

struct LayerTime {
  std::int64_t values = 0;  // looked up, of all samples
  double seconds = 0;
};

struct RunTime {
  std::size_t samples = 1;
  int threads = 1;
  std::map<std::size_t, LayerTime> layers;  // by node of a lookup
  double linear_seconds = 0;

  double seconds() const;
};

// progress counts kinds of lookups.
RunTime measure_run_time(const Circuit& circuit, const Plan& plan, const RunTimeSettings& settings,
                         const ProgressCallback& progress = {});

// The same work where values are spread over so many cores, each as fast as one of those that were
// measured: the last values of a layer may leave cores idle.
double seconds_on_cores(const RunTime& time, int cores);

}  // namespace torusml
