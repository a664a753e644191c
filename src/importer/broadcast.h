// NumPy's broadcasting of shapes and values.
#pragma once

#include <vector>

#include "importer/float_graph.h"

namespace torusml {

// Errors: wrong_shape, not_supported (too many elements).
Shape broadcast_shape(const Shape& a, const Shape& b);

// Values of `tensor` as seen in `shape`, to which it must broadcast (else wrong_shape).
std::vector<double> broadcast_to(const Tensor<double>& tensor, const Shape& shape);

// As broadcast_to, without a copy of a tensor that outlives it and has the shape already.
class Broadcast {
 public:
  Broadcast(const Tensor<double>& tensor, const Shape& shape)
      : same_(tensor.shape == shape ? &tensor.data : nullptr),
        copy_(same_ ? std::vector<double>() : broadcast_to(tensor, shape)) {}

  Broadcast(Tensor<double>&& tensor, const Shape& shape)
      : same_(nullptr), copy_(broadcast_to(tensor, shape)) {}

  double operator[](std::size_t i) const { return same_ ? (*same_)[i] : copy_[i]; }

 private:
  const std::vector<double>* same_;
  std::vector<double> copy_;
};

}  // namespace torusml
