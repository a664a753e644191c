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
// Cost: one pass over the calibration data. Pure function.
#pragma once

#include "quantization/quantized_graph.h"

namespace torusml {

// calibration: one tensor per input, (samples, shape...). Errors:
// empty_calibration, constant_calibration, non_finite_value, wrong_shape,
// unsupported_bits, invalid_argument, missing_quantizer, not_supported.
QuantizedGraph quantize(FloatGraph graph, const std::vector<Tensor<double>>& calibration,
                        const QuantizationRequest& request);

}  // namespace torusml
