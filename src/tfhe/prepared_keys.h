// Evaluation keys in the kernels' layout. Internal to this room.
#pragma once

#include "base/memory.h"
#include "tfhe/bootstrap.h"
#include "tfhe/kernels.h"

namespace torusml {

// Doubles from a row to the next: rows at a distance that is no power of two do not compete for the
// same cache lines.
inline std::size_t row_pitch(std::size_t size) { return size + 64; }

struct EvaluationKeys::State {
  TfheParameters parameters;
  StepShape step;  // for one shard
  // The keys of one step after the other, scaled so that join_add yields torus words.
  AlignedBuffer<double> bootstrap;
  // One row per bit of the big key after the small one, and level: small mask, body, zeros up to
  // the pitch.
  std::size_t keyswitch_pitch = 0;
  AlignedBuffer<std::uint32_t> keyswitch;

  std::size_t small() const { return parameters.small_dimension.value; }
  std::size_t big() const { return parameters.big_dimension().value; }
  std::size_t size() const { return parameters.polynomial_size.value; }
  std::size_t polynomials() const { return parameters.glwe_dimension.value + std::size_t{1}; }
  std::size_t steps() const { return small() / parameters.grouping_factor; }
  const double* matrix(std::size_t step_index) const {
    return bootstrap.data() + step_index * step.matrix_doubles(size() / 2);
  }
};

}  // namespace torusml
