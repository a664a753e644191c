// Tables from float functions: evaluates what lies between an accumulator and a quantizer on every
// integer.
#pragma once

#include <functional>

#include "circuit/circuit.h"
#include "importer/float_graph.h"
#include "torusml/quantizer.h"

namespace torusml {

class TableBuilder {
 public:
  // to_float: accumulators (batch, shape...) to the float tensor at the tail's root.
  using ToFloat = std::function<FloatTensor(const Tensor<double>& accumulators)>;
  TableBuilder(const FloatGraph& graph, Interval domain, Shape root_shape, ToFloat to_float)
      : graph_(graph),
        domain_(domain),
        root_shape_(std::move(root_shape)),
        to_float_(std::move(to_float)) {}

  // Entry v of element e is quantizer(tail(to_float(v))) there; equal rows are merged. The name is
  // empty.
  Table build(const ElementwiseTail& tail, const UniformQuantizer& quantizer) const;

 private:
  const FloatGraph& graph_;
  Interval domain_;
  Shape root_shape_;  // with a batch axis of 1
  ToFloat to_float_;
};

}  // namespace torusml
