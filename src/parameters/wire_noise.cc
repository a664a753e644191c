#include "parameters/wire_noise.h"

#include <cmath>

#include "parameters/noise.h"

namespace torusml {
namespace {

constexpr std::uint32_t kLeastTraceLevels = 2, kMostTraceLevels = 4;
constexpr std::uint32_t kMostTraceBits = 63;  // of all levels

constexpr double kBitVariance = 0.25, kBitSecondMoment = 0.5;  // of a uniform key bit

// The base with the least noise.
TfheParameters with_best_trace(TfheParameters p, std::uint32_t levels) {
  TfheParameters best = p;
  best.trace = {1, levels};
  for (std::uint32_t base_log2 = 2; base_log2 * levels <= kMostTraceBits; ++base_log2) {
    p.trace = {base_log2, levels};
    if (result_packing_variance(p) < result_packing_variance(best)) best = p;
  }
  return best;
}

}  // namespace

Variance wire_rounding_variance(LweDimension dimension, int bits) {
  if (bits >= 64) return {};
  return {(dimension.value * kBitVariance + 1) * std::exp2(-2.0 * bits) / 12};
}

// The error of the keyswitch at level L is doubled log2 N - L times: the sum of 4^(log2 N - L). The
// second term is the division by N before it, rounded to words.
Variance result_packing_variance(const TfheParameters& p) {
  const double size = p.polynomial_size.value;
  const double division = size * size * (size * kBitSecondMoment + 1) * 0x1p-128 / 12;
  return {(size * size - 1) / 3 * trace_step_variance(p).value + division};
}

std::optional<Gadget> packing_trace(const TfheParameters& p, Variance limit) {
  for (std::uint32_t levels = kLeastTraceLevels; levels <= kMostTraceLevels; ++levels) {
    const TfheParameters best = with_best_trace(p, levels);
    if (result_packing_variance(best) <= limit) return best.trace;
  }
  return std::nullopt;
}

Variance least_packing_variance(const TfheParameters& p) {
  return result_packing_variance(with_best_trace(p, kMostTraceLevels));
}

}  // namespace torusml
