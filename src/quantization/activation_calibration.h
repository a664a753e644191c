// Quantizers of activations from the values that they take on calibration data.
//
//   UniformQuantizer q = calibrate(values, 3, {.method = QuantizationMethod::mse});
//
// All but min/max clip: values beyond a threshold T become T (or -T), so that the integers are
// spent on the many small values. Cost: O(values), for mse and entropy of 2^16 of them at most,
// times about a hundred thresholds. Pure functions.
#pragma once

#include <vector>

#include "quantization/methods.h"
#include "torusml/quantizer.h"

namespace torusml {

struct ActivationCalibration {
  QuantizationMethod method = QuantizationMethod::minmax;
  double percentile = 99.9;  // of percentile: in (50, 100]
};

// minmax and compatible: the values' range. percentile: from the (100 - p)-th to the p-th. mse
// (best, too): the threshold with the least squared error. entropy: the threshold under which the
// distribution of the quantized values is nearest to that of the values (Kullback-Leibler).
// Errors: empty_calibration, non_finite_value.
UniformQuantizer calibrate(const std::vector<double>& values, int bits,
                           const ActivationCalibration& calibration);

// The quantizer of the values clipped to [-threshold, threshold].
UniformQuantizer clipped_quantizer(const MinMaxQuantizationStats& range, int bits,
                                   double threshold);

}  // namespace torusml
