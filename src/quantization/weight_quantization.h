// Weights of floats to integers, after training.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace torusml {

struct IntegerWeights {
  std::vector<std::int64_t> integers;  // the zero point is taken off
  double scale = 1;
};

// Signed and symmetric if the weights are roughly centred (3rd and 97th
// percentile on both sides of 0, extremes within a factor of 3), else with a
// zero point. `counts`: how often each weight stands; empty: once. Source: concepts.md,
// "Quantization".
IntegerWeights quantize_weights(const std::vector<double>& weights, int bits,
                                const std::vector<std::int64_t>& counts = {});

// Signed, without zero point. The largest weight gets the largest integer, or, with `least_error`,
// the step is the one of some that leaves the least squared error (steps below clip). Weights of 0
// only: integers of 0 under a step of 1.
IntegerWeights quantize_symmetric(std::span<const double> weights, int bits, bool least_error,
                                  const std::vector<std::int64_t>& counts = {});

// NumPy's percentile with linear interpolation; fraction in [0, 1].
double percentile(std::vector<double> values, double fraction);
// The same of values that stand as often as `counts` says.
double percentile(const std::vector<double>& values, const std::vector<std::int64_t>& counts,
                  double fraction);

}  // namespace torusml
