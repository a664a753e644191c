#include "importer/broadcast.h"

#include <fmt/format.h>

#include <algorithm>

#include "importer/limits.h"
#include "torusml/error.h"

namespace torusml {
namespace {

[[noreturn]] void throw_mismatch(const Shape& a, const Shape& b) {
  throw Error(ErrorCode::wrong_shape,
              fmt::format("shapes {} and {} do not broadcast", to_string(a), to_string(b)));
}

}  // namespace

Shape broadcast_shape(const Shape& a, const Shape& b) {
  const std::size_t rank = std::max(a.size(), b.size());
  Shape shape(rank, 1);
  for (std::size_t i = 1; i <= rank; ++i) {
    const std::int64_t x = i <= a.size() ? a[a.size() - i] : 1;
    const std::int64_t y = i <= b.size() ? b[b.size() - i] : 1;
    if (x != y && x != 1 && y != 1) throw_mismatch(a, b);
    shape[rank - i] = x == 1 ? y : x;
  }
  checked_elements(shape);
  return shape;
}

std::vector<double> broadcast_to(const Tensor<double>& tensor, const Shape& shape) {
  if (broadcast_shape(tensor.shape, shape) != shape) throw_mismatch(tensor.shape, shape);
  const std::int64_t count = checked_elements(shape);
  if (tensor.data.size() == 1) return std::vector<double>(count, tensor.data.front());
  if (static_cast<std::int64_t>(tensor.data.size()) == count) return tensor.data;

  // Doubles the tensor axis by axis, last one first: `block` is the part expanded so far.
  const std::size_t rank = shape.size(), missing = rank - tensor.shape.size();
  std::vector<double> values = tensor.data;
  std::int64_t block = 1;
  for (std::size_t axis = rank; axis-- > 0;) {
    const std::int64_t has = axis < missing ? 1 : tensor.shape[axis - missing];
    if (has != shape[axis]) {
      std::vector<double> wider;
      wider.reserve(values.size() * shape[axis]);
      for (auto at = values.begin(); at != values.end(); at += block) {
        for (std::int64_t k = 0; k < shape[axis]; ++k) wider.insert(wider.end(), at, at + block);
      }
      values = std::move(wider);
    }
    block *= shape[axis];
  }
  return values;
}

}  // namespace torusml
