// Finds shapes by running the graph: tensors that depend on the input are stood in for by dummies
// of their shape, all others carry their values.
//
// Cost: a forward pass of `batch` samples, one node's tensors at a time.
#pragma once

#include <map>
#include <string>

#include "importer/float_graph.h"

namespace torusml {

class ShapeRun {
 public:
  ShapeRun(const FloatGraph& graph, std::int64_t batch);

  // Runs a node whose inputs have been run; records its output. Error not_supported, before they
  // are computed, for more elements than can be encrypted, or kept of constants.
  void run(const FloatNode& node);

  bool is_constant(const std::string& tensor) const;  // does not depend on the input
  bool are_constant(const FloatNode& node) const;     // all inputs
  const Shape& shape(const std::string& tensor) const;
  // The value of a tensor that is_constant.
  const FloatTensor& value(const std::string& tensor) const;

 private:
  struct Known {
    Shape shape;
    ElementType type;
  };

  FloatTensor result_of(const FloatNode& node) const;
  void check_result(const FloatNode& node, const Shape& shape) const;

  const FloatGraph& graph_;
  std::map<std::string, Known> dependent_;
  std::map<std::string, FloatTensor> values_;  // of nodes on constants alone
  std::int64_t folded_ = 0, most_folded_ = 0;  // elements of values_
};

}  // namespace torusml
