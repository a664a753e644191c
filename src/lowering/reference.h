// For tests: two evaluators that share nothing with lowering. One runs a circuit, one the quantized
// graph layer by layer.
#pragma once

#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "lowering/lower.h"

namespace torusml {

using Integers64 = std::vector<std::int64_t>;

// All values of one sample. Integers outside their interval give an empty result.
inline std::map<ValueId, Integers64> run_circuit(const Circuit& circuit,
                                                 const std::vector<Integers64>& inputs) {
  std::map<ValueId, Integers64> values;
  std::size_t next_input = 0;
  for (const Node& node : circuit.nodes) {
    if (const auto* input = std::get_if<Input>(&node.op)) {
      values[input->result] = inputs.at(next_input++);
    } else if (const auto* linear = std::get_if<Linear>(&node.op)) {
      const TensorType& type = circuit.values[linear->result];
      Integers64 y = linear->bias;
      y.resize(static_cast<std::size_t>(number_of_elements(type.shape)), 0);
      for (const LinearTerm& term : linear->terms) {
        const Integers64& x = values.at(term.operand);
        apply_weight(term.weight, x.data(), static_cast<std::int64_t>(x.size()), y.data(),
                     static_cast<std::int64_t>(y.size()));
      }
      for (std::int64_t v : y) {
        if (!type.interval.contains(v)) return {};
      }
      values[linear->result] = std::move(y);
    } else if (const auto* lut = std::get_if<Lut>(&node.op)) {
      const Integers64& x = values.at(lut->operand);
      for (std::size_t t = 0; t < lut->tables.size(); ++t) {
        Integers64& y = values[lut->results[t]];
        for (std::size_t e = 0; e < x.size(); ++e)
          y.push_back(lut->tables[t].at(static_cast<std::int64_t>(e), x[e]));
      }
    }
  }
  return values;
}

inline std::vector<Integers64> outputs_of(const Circuit& circuit,
                                          const std::map<ValueId, Integers64>& values) {
  std::vector<Integers64> outputs;
  for (const Node* node : output_nodes(circuit))
    outputs.push_back(values.at(std::get<Output>(node->op).operand));
  return outputs;
}

struct ReferenceRun {
  std::map<std::string, Integers64> accumulators;  // by layer output
  std::vector<std::vector<double>> outputs;        // floats
};

inline Integers64 rounded(Integers64 sums, int removed_bits) {
  if (removed_bits == 0) return sums;
  // An arithmetic shift is a floor.
  for (std::int64_t& v : sums)
    v = (v + (std::int64_t{1} << (removed_bits - 1))) >> removed_bits << removed_bits;
  return sums;
}

// The quantized graph on one sample of each input, from its definition. removed_bits: by layer
// output, of accumulators that quantizers read.
inline ReferenceRun run_reference(const QuantizedGraph& quantized,
                                  const std::vector<Tensor<double>>& sample,
                                  const std::map<std::string, int>& removed_bits = {}) {
  ReferenceRun run;
  std::map<std::string, FloatTensor> floats, kept;  // rounded, and not
  for (std::size_t i = 0; i < sample.size(); ++i) {
    const UniformQuantizer& q = quantized.inputs[i].quantizer;
    floats[quantized.inputs[i].name] = {
        ElementType::floating, {sample[i].shape, q.dequantize(q.quantize(sample[i].data))}};
  }
  const std::set<std::string> roots = quantized.roots();
  kept = floats;
  const auto at = [&](const std::string& tensor, const std::map<std::string, FloatTensor>& values) {
    const ElementwiseTail tail = elementwise_tail(quantized.graph, tensor, roots);
    return evaluate_tail(quantized.graph, tail, values.at(tail.root)).values.data;
  };
  for (const QuantizedLayer& layer : quantized.layers) {
    Integers64 sums = layer.integer_bias;
    sums.resize(static_cast<std::size_t>(number_of_elements(layer.shape)), 0);
    for (const QuantizedOperand& operand : layer.operands) {
      const Integers64 x = operand.quantizer.quantize(at(operand.tensor, floats));
      apply_weight(operand.weight, x.data(), static_cast<std::int64_t>(x.size()), sums.data(),
                   static_cast<std::int64_t>(sums.size()));
    }
    const Shape& shape = quantized.graph.shapes.at(layer.output);
    kept[layer.output] = layer_output(layer, {layer.shape, {sums.begin(), sums.end()}}, shape);
    const auto removed = removed_bits.find(layer.output);
    const Integers64 r = rounded(sums, removed == removed_bits.end() ? 0 : removed->second);
    floats[layer.output] = layer_output(layer, {layer.shape, {r.begin(), r.end()}}, shape);
    run.accumulators[layer.output] = std::move(sums);
  }
  for (const QuantizedOutput& output : quantized.outputs) {
    std::vector<double> y = at(output.name, output.is_table() ? floats : kept);
    if (output.is_table()) y = output.quantizer.dequantize(output.quantizer.quantize(y));
    run.outputs.push_back(std::move(y));
  }
  return run;
}

inline std::vector<double> dequantized(const LoweredOutput& output, const Integers64& integers) {
  std::vector<double> floats;
  for (std::size_t i = 0; i < integers.size(); ++i) {
    const double zero = output.zero_point[i % output.zero_point.size()];
    floats.push_back(output.scale[i % output.scale.size()] *
                     (static_cast<double>(integers[i]) - zero));
  }
  return floats;
}

// How far `dequantized` may lie from the definition: the bias of an output without a table is exact
// to half the last bit of its zero point.
inline double tolerance(const LoweredOutput& output, std::size_t element) {
  const double scale = std::abs(output.scale[element % output.scale.size()]);
  return 1e-9 + std::ldexp(scale, -kFractionBits - 1);
}

}  // namespace torusml
