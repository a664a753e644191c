// How a Resize reads its operand, for the evaluator and for quantization: along each axis, every
// place of the result is a sum of few places of the operand.
#pragma once

#include <vector>

#include "importer/operators.h"

namespace torusml {

struct ResizeTap {
  std::int64_t source = 0;
  double weight = 1;
};

// By axis, then by place of the result; empty for an axis that stays as it is. One tap of weight 1
// in mode nearest, up to two in mode linear, whose weights are not 0 and add up to 1.
using ResizeTaps = std::vector<std::vector<std::vector<ResizeTap>>>;

bool is_linear_resize(const FloatNode& node);

// `operands` holds scales or sizes, `from` is the operand's shape. Errors: invalid_model,
// not_supported.
ResizeTaps resize_taps(const FloatNode& node, const Operands& operands, const Shape& from);

}  // namespace torusml
