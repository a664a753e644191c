#include "parameters/wire_noise.h"

#include <cmath>

namespace torusml {
namespace {

constexpr double kBitVariance = 0.25;  // of a uniform key bit

}  // namespace

Variance wire_rounding_variance(LweDimension dimension, int bits) {
  if (bits >= 64) return {};
  return {(dimension.value * kBitVariance + 1) * std::exp2(-2.0 * bits) / 12};
}

}  // namespace torusml
