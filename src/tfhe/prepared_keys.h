// Evaluation keys in the kernels' layout. Internal to this room.
#pragma once

#include "base/memory.h"
#include "tfhe/bootstrap.h"
#include "tfhe/kernels.h"

namespace torusml {

struct EvaluationKeys::State {
  TfheParameters parameters;
  ProductShape product;
  // One matrix per bit of the small key, scaled so that inverse_add yields torus words.
  AlignedBuffer<double> bootstrap;
  // One row per bit of the big key and level: small mask, body, zeros up to the pitch.
  std::size_t keyswitch_pitch = 0;
  AlignedBuffer<std::uint32_t> keyswitch;

  std::size_t small() const { return parameters.small_dimension.value; }
  std::size_t big() const { return parameters.big_dimension().value; }
  std::size_t size() const { return parameters.polynomial_size.value; }
  std::size_t polynomials() const { return parameters.glwe_dimension.value + std::size_t{1}; }
  const double* matrix(std::size_t bit) const {
    return bootstrap.data() + bit * product.matrix_doubles();
  }
};

}  // namespace torusml
