// A layer whose integers are fitted to what the float network computes, on what the quantized
// layers before it really hand on.
//
//   OperandChoice operand = choose_operand(tied, values, shape, targets, 3, true, seed);
//   FittedLayer layer = fit_layer(tied, integers, targets, {.bits = 3}, seed);
//
// Cost: that of fit_integers (quantization/integer_fit.h), on kMostPlaces samples and places at
// most. Pure functions.
#pragma once

#include <cstdint>
#include <vector>

#include "quantization/integer_fit.h"
#include "quantization/tied_weights.h"
#include "torusml/quantizer.h"

namespace torusml {

inline constexpr std::int64_t kMostPlaces = std::int64_t{1} << 14;

// How a layer's operand is quantized: quantizer(values / divisor).
struct OperandChoice {
  UniformQuantizer quantizer;
  std::vector<double> divisor;  // by element of the operand
};

// Cross-layer equalization and clipping in one search: divisors take channels (axis 1 of `shape`)
// wholly, halfway or not at all to one common range, and the range is cut at some thresholds.
// Chosen is what leaves the layer's own result best: the least squares error of `targets` on the
// integers. values, targets: sample after sample. equalizes: divisors other than 1 are allowed.
OperandChoice choose_operand(const TiedWeights& tied, const std::vector<double>& values,
                             const Shape& shape, const std::vector<double>& targets, int bits,
                             bool equalizes, std::uint64_t seed);

struct FittedLayer {
  std::vector<std::int64_t> integers;  // channels x parameters
  std::vector<double> scale, shift;    // by channel: targets ~ scale * sums + shift
};

// integers: of the operand, without its zero point, sample after sample. unit: what one of them is
// worth in the weights' floats.
FittedLayer fit_layer(const TiedWeights& tied, const std::vector<double>& integers, double unit,
                      const std::vector<double>& targets, const IntegerFitOptions& options,
                      std::uint64_t seed);

}  // namespace torusml
