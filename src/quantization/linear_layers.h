// Cuts a float network into linear layers of encrypted tensors, before any
// number is quantized.
//
//   Network network(graph);
//   std::vector<LinearLayer> layers = linear_layers(network, {.fold = true});
//
// A layer is written over the tensors that are quantized in front of it: result
// = sum of maps of operands + bias. With `fold`, linear maps that follow each
// other become one, so that a network without non-linear functions is one layer
// for each output.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "quantization/float_map.h"
#include "quantization/network.h"
#include "quantization/step_rules.h"

namespace torusml {

struct FloatTerm {
  std::string tensor;  // an operand: a graph input, or a function of one root
                       // that is tabulated
  FloatMap map;
};

struct LinearLayer {
  std::string name;    // of the node
  std::string output;  // the tensor that it computes
  std::vector<FloatTerm> terms;
  std::vector<double> bias;  // one per element
  // What one unit of the map's rows is worth: one number, or one per element. 1
  // but where weights were read as integers.
  std::vector<double> row_scale{1.0};
  std::shared_ptr<const CustomOperator> custom;  // then the terms' maps are empty
};

// A constant weight as integers and the scale of each (of the same shape).
struct IntegerWeight {
  Tensor<double> integers, scales;
};

struct CutOptions {
  // Linear maps that follow each other become one where the inner result is
  // used nowhere else, or is a map of one operand alone.
  bool fold = true;
  // If set, weights of Gemm, MatMul and Conv are read as integers.
  std::function<IntegerWeight(const FloatNode& reader, const std::string& weight)> read_weight;
  StepRules rules;
};

// The layers that the outputs need, in topological order. Errors:
// not_supported, naming the node.
std::vector<LinearLayer> linear_layers(const Network& network, const CutOptions& options);

}  // namespace torusml
