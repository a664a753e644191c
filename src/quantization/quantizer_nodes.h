// Quantizers that a network brings along: Quant (QONNX), and QuantizeLinear with DequantizeLinear
// (QCDQ).
#pragma once

#include <optional>
#include <string>

#include "importer/float_graph.h"
#include "torusml/quantizer.h"

namespace torusml {

struct FoundQuantizer {
  UniformQuantizer quantizer;
  std::string input;  // the tensor that is quantized
};

// The quantizer whose result `tensor` is, seen through operators that keep the flat order.
// Errors: not_supported for several scales of an activation or a rounding other than half to even.
std::optional<FoundQuantizer> find_quantizer(const FloatGraph& graph, const std::string& tensor);

// Scales (one, or one per row) of a constant that a quantizer produced, transposed or not; empty if
// none did.
std::vector<double> weight_scales(const FloatGraph& graph, const std::string& tensor);

bool has_quantizers(const FloatGraph& graph);

}  // namespace torusml
