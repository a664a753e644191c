// QuantizedGraph to Circuit: layers become linear nodes, everything between
// them one table per activation.
//
//   LoweredModel lowered = lower(quantized, {calibration}, {.margin = 0.05});
//
// Bias, zero points, scales, batch normalization, activation and the next
// quantizer are folded into the table. An output that is an affine function of
// accumulators leaves as accumulators. Its bias, rounded half to even, is added
// in the circuit; what rounding takes away becomes a fraction of the output's
// zero point.
//
// Cost: one pass of the integer circuit over the calibration data, and one
// evaluation of each activation per integer of its interval and element. Pure
// function.
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "circuit/circuit.h"
#include "quantization/quantized_graph.h"

namespace torusml {

struct LoweringOptions {
  // Calibrated intervals are widened by this fraction of their width on each
  // side, never beyond what the weights allow.
  double margin = 0.05;
  // Take the interval that the weights allow where it needs no more bits.
  bool prefer_guaranteed_same_bits = true;
  // Accumulators that only tables read are shifted by a constant per channel (axis 1), where the
  // channels' intervals about one centre need less room than their hull.
  bool centre_channels = true;
  // Channels of such accumulators are multiplied by an integer each, as far as the interval and the
  // longest row of weights allow: then noise is small beside every channel's own interval. For
  // tolerant lookups; exact ones gain nothing by it.
  bool scale_channels = false;
  // If not 0, layers whose accumulators take more bits than that on the calibration data, with
  // their sign, round the rest away before their tables: halves of a step go up.
  int rounding_bits = 0;
  // The same by number of bits to round away, by layer output; takes the place of rounding_bits.
  std::map<std::string, int> removed_bits;
};

struct LoweredInput {
  std::string name;
  Shape shape;  // of one sample
  UniformQuantizer quantizer;
  Interval interval;
};

// Fractions of zero points are multiples of 2^-kFractionBits: what is finer would be rounding
// errors of 32-bit floats, and would tell clients more of the biases than they need.
inline constexpr int kFractionBits = 16;

// float = scale * (integer - zero_point); one entry, or one per channel of the
// last axis, or one per element.
struct LoweredOutput {
  std::string name;
  Shape shape;
  std::vector<double> scale, zero_point;
};

// Of the circuit's integers: where channels are shifted or scaled, after that.
struct NodeRange {
  std::string name;
  Interval calibrated, guaranteed, declared;
  bool feeds_table = false;
  // By element: circuit integer = factor * layer's integer + offset; empty: they are the same.
  std::vector<std::int64_t> factor, offset;
};

struct LoweredModel {
  Circuit circuit;
  std::vector<LoweredInput> inputs;
  std::vector<LoweredOutput> outputs;
  std::vector<NodeRange> ranges;            // of linear nodes
  std::map<std::string, int> removed_bits;  // by layer output, where it is not 0
  // Names of lookups and outputs of layers that are places or decide on them: to be exact under any
  // precision.
  std::set<std::string> exact_nodes;
};

// calibration: one tensor per input, (samples, shape...); it need not be what
// the graph was quantized on. Errors: empty_calibration, wrong_shape,
// non_finite_value (of an activation on a calibrated value, too),
// accumulator_too_wide (more than 16 bits at a table, naming the layer),
// invalid_argument (margin), not_supported.
LoweredModel lower(const QuantizedGraph& quantized, const std::vector<Tensor<double>>& calibration,
                   const LoweringOptions& options = {});

}  // namespace torusml
