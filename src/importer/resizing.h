// How a Resize reads its operand, for the evaluator and for quantization: along each axis, every
// place of the result is one of the operand's, or lies between two of them.
#pragma once

#include <vector>

#include "importer/operators.h"

namespace torusml {

// The operand's element `source` and, in mode linear, as much of the one after it as `share` says.
struct ResizePlace {
  std::int64_t source = 0;
  double share = 0;  // below 1; where it is 0, there may be no element after
};

// By axis, then by place of the result; empty for an axis that stays as it is.
using ResizePlaces = std::vector<std::vector<ResizePlace>>;

bool is_linear_resize(const FloatNode& node);

// `operands` holds scales or sizes, `from` is the operand's shape. Errors: invalid_model,
// not_supported.
ResizePlaces resize_places(const FloatNode& node, const Operands& operands, const Shape& from);

}  // namespace torusml
