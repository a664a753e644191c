// The mixing operators of a float network as linear maps, before any number is quantized.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "importer/float_graph.h"

namespace torusml {

struct FloatOperand {
  std::string tensor;     // what the layer reads
  Tensor<double> weight;  // (rows, columns) on the last axis; empty for a factor on every element
  double factor = 1;      // +1 or -1
  std::vector<double> scales;  // of a weight that a quantizer produced: one, or one per row
};

struct FloatLayer {
  std::string name, op_type;
  std::string output;
  std::vector<FloatOperand> operands;
  std::vector<double> bias;  // empty, or one per row
  std::shared_ptr<const CustomOperator> custom;
};

// In the order in which they are computed. Errors: not_supported, naming the node.
std::vector<FloatLayer> cut_layers(const FloatGraph& graph);

// Composes linear maps that follow each other with affine operators alone between them, where the
// inner result is used nowhere else; also affine operators between an input and its first linear
// map.
std::vector<FloatLayer> fold_linear_layers(const FloatGraph& graph, std::vector<FloatLayer> layers);

std::set<std::string> layer_roots(const FloatGraph& graph, const std::vector<FloatLayer>& layers);

}  // namespace torusml
