// Quantizers that a network of quantization-aware training brings along: Quant
// nodes (QONNX), QuantizeLinear with DequantizeLinear (QCDQ), or, without such
// nodes, values that lie on a grid.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "quantization/linear_layers.h"
#include "quantization/network.h"
#include "torusml/quantizer.h"

namespace torusml {

struct OwnQuantizer {
  UniformQuantizer quantizer;
  std::string input;  // the tensor that is quantized
  // Gives the same integers for any float of `input`: not so where the node rounds in another way.
  bool rounds_input = true;
};

// The quantizer whose result `tensor` is, seen through changes of shape. Its
// range may be wider than the node's; the node's own clipping stays part of the
// float function before it. Errors: not_supported for several scales of an
// activation and other roundings than half to even, unsupported_bits.
std::optional<OwnQuantizer> own_quantizer(const Network& network, const std::string& tensor);

// A constant weight that a quantizer made, or that lies on a grid of `bits`
// bits. Errors: missing_quantizer if neither holds, not_supported.
IntegerWeight own_weight(const Network& network, const FloatNode& reader, const std::string& tensor,
                         int bits);

// The quantizer without zero point, of at most `bits` bits, under which values
// change by float noise only; none if there is none.
std::optional<UniformQuantizer> grid_quantizer(const std::vector<double>& values, int bits);

bool has_quantizers(const FloatGraph& graph);

}  // namespace torusml
