// The seam for operators that users define (in Python: QuantizedOp). The importer carries them;
// quantization and lowering call them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "importer/float_graph.h"

namespace torusml {

// What a user's operator does with encrypted integers: acc = sum over inputs of matrix * integers +
// bias, then a function of each accumulator alone. Matrices act on one flattened sample.
struct RecordedLinear {
  struct Term {
    int input = 0;  // index among the node's encrypted inputs
    std::int64_t rows = 0, columns = 0;
    std::vector<std::int64_t> row, column, value;  // coordinates of the non-zero entries
  };
  std::vector<Term> terms;
  std::vector<std::int64_t> bias;  // one per accumulator; may be empty
  Shape shape;                     // of the accumulators, batch axis first and 1
};

struct InputQuantization {
  std::vector<double> scale;
  std::vector<std::int64_t> zero_point;
  int n_bits = 0;
  bool is_signed = false;
};

class CustomOperator {
 public:
  virtual ~CustomOperator() = default;

  // True: element by element on one input, folded into tables as any activation.
  virtual bool is_univariate() const = 0;
  // Float semantics, for calibration and the float oracle. Non-constant inputs only, batch axis
  // first.
  virtual FloatTensor evaluate(const std::vector<FloatTensor>& inputs) const = 0;
  // Mixing operators: records the integer part for the given input quantizers.
  virtual RecordedLinear record(const std::vector<InputQuantization>& inputs) const = 0;
  // Mixing operators: the float tail, accumulators (batch axis first) to the operator's float
  // output.
  virtual FloatTensor apply_tail(const Tensor<double>& accumulators,
                                 const std::vector<InputQuantization>& inputs) const = 0;
};

}  // namespace torusml
