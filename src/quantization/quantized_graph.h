// A float network with quantizers on it: calibration and PTQ, or import of quantization-aware training.
//
// The graph is cut at its mixing operators (Gemm, MatMul, Add of two encrypted tensors...). Each reads
// integers, through a quantizer per encrypted input, and writes an integer accumulator. Everything between
// an accumulator and the next quantizer is a float function of each element, which lowering tabulates.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "importer/float_graph.h"
#include "torusml/quantizer.h"

namespace torusml {

// Bits by role, with the peer's defaults: an integer n means {n, n, max(5, n), max(5, n)}.
struct QuantizationBits {
  int op_inputs = 8, op_weights = 8, model_inputs = 8, model_outputs = 8;

  static QuantizationBits uniform(int bits);
};

struct QuantizationRequest {
  QuantizationBits bits;
  bool import_qat = false;
};
}  // namespace torusml
