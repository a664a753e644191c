// A float network with quantizers on it.
//
// The graph is cut at its mixing operators (Gemm, MatMul, Add of two encrypted tensors, a user's
// own). Each reads integers, through a quantizer per encrypted operand, and writes an integer
// accumulator:
//   accumulator = sum over operands of weight * q,    float output = scale * (accumulator - zero) +
//   bias.
// Everything between an accumulator and the next quantizer is a float function of each element,
// which lowering tabulates. Thread rule: a value type; const use is concurrent.
#pragma once

#include <memory>
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

// rows x columns on the last axis of the operand; without rows, `factor` on every element.
struct IntegerWeight {
  std::int64_t rows = 0, columns = 0;
  std::vector<std::int64_t> data;
  std::int64_t factor = 1;
};

struct QuantizedOperand {
  std::string tensor;  // the float tensor that the quantizer is applied to
  UniformQuantizer quantizer;
  IntegerWeight weight;  // not used by a user's own operator
};

struct QuantizedLayer {
  std::string name;    // of the ONNX node
  std::string output;  // the float tensor that the accumulator stands for
  Shape shape;         // of the accumulator, with a batch axis of 1
  std::vector<QuantizedOperand> operands;
  // Each has one entry, or one per channel of the last axis.
  std::vector<double> scale{1.0};
  std::vector<std::int64_t> zero{0};
  std::vector<double> bias{0.0};
  std::shared_ptr<const CustomOperator> custom;  // its tail replaces scale, zero and bias
};

struct QuantizedInput {
  std::string name;
  UniformQuantizer quantizer;
};

struct QuantizedOutput {
  std::string tensor;  // the quantizer's operand
  std::string name;    // of the graph's output
  UniformQuantizer
      quantizer;  // used only where the tensor is not an affine function of an accumulator
};

struct QuantizedGraph {
  FloatGraph graph;
  std::vector<QuantizedInput> inputs;
  std::vector<QuantizedLayer> layers;  // in the order in which they are computed
  std::vector<QuantizedOutput> outputs;

  // Tensors at which elementwise walks end: the graph's inputs and the layers' outputs.
  std::set<std::string> roots() const;
};

// The float output of a layer from its accumulators, (batch, shape...).
FloatTensor layer_output(const QuantizedLayer& layer, const Tensor<double>& accumulators);

// y = slope * x + offset by element of the root, if the tail is made of affine operators only.
struct AffineTail {
  std::vector<double> slope, offset;
};
std::optional<AffineTail> affine_tail(const FloatGraph& graph, const ElementwiseTail& tail);

}  // namespace torusml
