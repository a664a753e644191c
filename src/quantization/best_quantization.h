// Method best: fitted and tuned on most of the calibration samples, then the best of what was
// found, and of method mse, on the samples that were held out. Few samples are not divided.
#pragma once

#include <vector>

#include "quantization/quantized_graph.h"
#include "torusml/progress.h"

namespace torusml {

// Errors: calibration_too_small, constant_calibration, and those of LayerWalk.
QuantizedGraph quantize_best(FloatGraph graph, const std::vector<Tensor<double>>& calibration,
                             const QuantizationRequest& request, const ProgressCallback& progress);

}  // namespace torusml
