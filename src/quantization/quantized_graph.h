// A float network with quantizers on it.
//
// The graph is cut at its mixing operators (Gemm, MatMul, Conv, sums of encrypted
// tensors, a user's own). Each layer reads integers, through a quantizer per
// operand, and computes integer accumulators:
//
//   accumulator = sum over operands of weight * quantizer(tensor) +
//   integer_bias float       = scale * (accumulator - zero) + bias (or the tail
//   of a user's operator)
//
// Everything between an accumulator and the next quantizer is a float function
// of each element, which lowering tabulates.
//
// Thread rule: a value type; const use is concurrent.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "circuit/circuit.h"
#include "importer/custom_operator.h"
#include "importer/float_graph.h"
#include "quantization/methods.h"
#include "torusml/quantizer.h"

namespace torusml {

// Bits by role, with the peer's defaults: an integer n means {n, n, max(5, n),
// max(5, n)}.
struct QuantizationBits {
  int op_inputs = 8, op_weights = 8, model_inputs = 8, model_outputs = 8;

  static QuantizationBits uniform(int bits);
};

// Of one layer, in place of op_inputs and op_weights.
struct LayerBits {
  int inputs = 8, weights = 8;
  friend bool operator==(const LayerBits&, const LayerBits&) = default;
};

struct QuantizationRequest {
  QuantizationBits bits;
  bool import_qat = false;  // take the quantizers that the network brings along
  QuantizationMethod method = QuantizationMethod::compatible;
  double percentile = 99.9;  // of method percentile: in (50, 100]
  // Of method best: a channel's accumulators that tables read stay within 2^accumulator_bits values
  // on the samples that are fitted, with a margin of 5 % on each side; 0: they may be as wide as
  // they like.
  int accumulator_bits = 0;
  std::uint64_t seed = 0;  // of method best: which samples are held out, and which are looked at
  std::map<std::string, LayerBits> layers;  // by the layer's output, where they differ
};

struct QuantizedOperand {
  std::string tensor;  // the float tensor that the quantizer is applied to
  UniformQuantizer quantizer;
  Weight weight;  // integers, its zero point taken off
};

struct QuantizedLayer {
  std::string name;    // of the ONNX node
  std::string output;  // the float tensor that the accumulators stand for
  Shape shape;         // of the accumulators, with a batch axis of 1
  std::vector<QuantizedOperand> operands;
  std::vector<std::int64_t> integer_bias;  // empty, or one per element
  // Each has one entry, or one per element; or one per channel of the last
  // axis.
  std::vector<double> scale{1.0};
  std::vector<std::int64_t> zero{0};
  std::vector<double> bias{0.0};
  // All that its accumulators can be, where the ranges of its operands allow more: their interval,
  // whatever calibration reaches.
  std::optional<Interval> bounds;
  // Its accumulators are places in a row, or decide on them: they are not rounded, and lookups of
  // them are exact under any precision.
  bool is_exact = false;
  // Its tail replaces scale, zero and bias.
  std::shared_ptr<const CustomOperator> custom;
  std::vector<InputQuantization> custom_inputs;
};

struct QuantizedInput {
  std::string name;
  UniformQuantizer quantizer;
};

// An output leaves as the integers of its root (float = slope * integer +
// offset, by element), or through a table that ends in the quantizer.
struct QuantizedOutput {
  std::string name;
  std::vector<double> slope, offset;  // empty: a table
  UniformQuantizer quantizer;         // of a table

  bool is_table() const { return slope.empty(); }
};

struct QuantizedGraph {
  FloatGraph graph;
  std::vector<QuantizedInput> inputs;
  std::vector<QuantizedLayer> layers;  // in the order in which they are computed
  std::vector<QuantizedOutput> outputs;

  // Tensors at which elementwise walks end: the graph's inputs and the layers'
  // outputs.
  std::set<std::string> roots() const;
};

// The float output of a layer from its accumulators, (batch, shape...); of
// `shape` but for the batch.
FloatTensor layer_output(const QuantizedLayer& layer, const Tensor<double>& accumulators,
                         const Shape& shape);
// The same from the floats of its operands, sample after sample, by the operands' quantizers.
FloatTensor layer_output(const QuantizedLayer& layer,
                         const std::vector<std::vector<double>>& operands, std::int64_t samples,
                         const Shape& shape);

// The outputs on samples of each input, (samples, shape...), from the definition.
std::vector<std::vector<double>> evaluate_quantized(const QuantizedGraph& quantized,
                                                    const std::vector<Tensor<double>>& inputs);

// Samples of integers, held in doubles, through a weight: y += weight * x, one
// sample after the other. Exact below 2^53.
void add_product(const Weight& weight, const std::vector<double>& x, std::int64_t samples,
                 std::vector<double>& y);

}  // namespace torusml
