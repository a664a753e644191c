// Tables from float functions: evaluates what lies between an accumulator and a
// quantizer on every integer.
#pragma once

#include <functional>
#include <string>

#include "circuit/circuit.h"
#include "importer/float_graph.h"
#include "lowering/ranges.h"
#include "torusml/quantizer.h"

namespace torusml {

class TableBuilder {
 public:
  // to_float: integers (batch, shape...) to the float tensor at the tail's
  // root. calibrated: what each element reaches on the calibration data.
  using ToFloat = std::function<FloatTensor(const Tensor<double>& integers)>;
  TableBuilder(const FloatGraph& graph, Interval domain, Shape shape,
               const ElementRanges& calibrated, ToFloat to_float)
      : graph_(graph),
        domain_(domain),
        shape_(std::move(shape)),
        calibrated_(calibrated),
        to_float_(std::move(to_float)) {}

  // Entry v of element e is quantizer(tail(to_float(v))) there; equal rows are
  // merged. Where the function is not finite, beyond what calibration reaches,
  // the nearest finite value is kept (a logarithm below zero, say). The name is
  // empty. Error non_finite_value on calibrated integers.
  Table build(const ElementwiseTail& tail, const UniformQuantizer& quantizer) const;

 private:
  using Add = std::function<void(std::size_t first, std::vector<double>& floats)>;
  void evaluate(const ElementwiseTail& tail, const Add& add) const;
  std::vector<std::int64_t> held_last_finite(std::vector<std::int64_t> row, std::size_t element,
                                             const std::string& tensor) const;

  const FloatGraph& graph_;
  Interval domain_;
  Shape shape_;  // with a batch axis of 1
  const ElementRanges& calibrated_;
  ToFloat to_float_;
};

// Every row's entries lie on a line.
bool is_affine_table(const Table& table);

// The operand itself.
bool is_identity(const Table& table);

}  // namespace torusml
