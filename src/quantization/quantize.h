// Quantizes a float network: post-training on calibration data, or by the
// quantizers that it brings along.
//
//   QuantizedGraph quantized = quantize(import_onnx("net.onnx"), {x}, {.bits =
//   QuantizationBits::uniform(3)});
//
// After training: every layer is calibrated on what the quantized layers before
// it compute. Linear maps that follow each other are folded into one; what
// encrypted data cannot do is rewritten first (decompositions.h). With import_qat:
// quantizers are those of Quant or QuantizeLinear/DequantizeLinear
// nodes; in a network without such nodes, operands and weights must lie on a
// grid of the requested bits already.
//
// Methods (QuantizationRequest::method): compatible is Concrete ML's. All others give every output
// channel of a layer's weights a step of its own where a table follows, and quantize inputs with
// model_inputs bits. minmax, percentile, mse and entropy calibrate activations (quantization/
// activation_calibration.h); all but minmax choose the weights' steps by their squared error and
// correct each channel's mean error in its bias. best fits integers to the float network, layer
// after layer (quantization/reconstruction.h), then to its outputs (quantization/fine_tuning.h),
// and takes what is best on a fifth of the calibration samples that it held out.
//
// Cost: one pass over the calibration data; best takes some seconds to a minute. Pure function.
#pragma once

#include "quantization/quantized_graph.h"
#include "torusml/progress.h"

namespace torusml {

// calibration: one tensor per input, (samples, shape...). Errors:
// empty_calibration, constant_calibration, non_finite_value, wrong_shape,
// unsupported_bits, invalid_argument, missing_quantizer, not_supported,
// calibration_too_small (best, below kLeastSamples). Progress is that of best.
QuantizedGraph quantize(FloatGraph graph, const std::vector<Tensor<double>>& calibration,
                        const QuantizationRequest& request, const ProgressCallback& progress = {});

// Samples that method best needs.
inline constexpr std::int64_t kLeastSamples = 32;

}  // namespace torusml
