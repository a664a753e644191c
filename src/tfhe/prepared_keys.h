// Evaluation keys in the kernels' layout. Internal to this room.
#pragma once

#include <span>
#include <variant>

#include "base/file_mapping.h"
#include "base/memory.h"
#include "tfhe/bootstrap.h"
#include "tfhe/kernels.h"

namespace torusml {

// Doubles from a row to the next: rows at a distance that is no power of two do not compete for the
// same cache lines.
inline std::size_t row_pitch(std::size_t size) { return size + 64; }

// multiply_step takes digits times X^e - 1. At e = N that is -2, and a matrix scaled by this makes
// it 1: a plain external product.
inline constexpr double kHalfNegated = -0.5;

// Prepared keys of this process alone.
struct PreparedBuffers {
  AlignedBuffer<double> bootstrap;
  AlignedBuffer<std::uint32_t> keyswitch;
  AlignedBuffer<double> trace;
};

struct EvaluationKeys::State {
  // Shapes alone; nothing to compute with yet.
  explicit State(const TfheParameters& parameters);

  TfheParameters parameters;
  StepShape step;  // for one shard
  // The keys of one step after the other, scaled so that join_add yields torus words.
  std::span<const double> bootstrap;
  // One row per bit of the big key after the small one, and level: small mask, body, zeros up to
  // the pitch.
  std::size_t keyswitch_pitch = 0;
  std::span<const std::uint32_t> keyswitch;

  // The keys of the trace, where there are any, one after the other, for plain products.
  StepShape trace_step;
  std::span<const double> trace;

  // Owns what the three spans show.
  std::variant<PreparedBuffers, FileMapping> memory;

  std::size_t bootstrap_size() const;  // of the three spans
  std::size_t keyswitch_size() const;
  std::size_t trace_size() const;

  std::size_t small() const { return parameters.small_dimension.value; }
  std::size_t big() const { return parameters.big_dimension().value; }
  std::size_t size() const { return parameters.polynomial_size.value; }
  std::size_t polynomials() const { return parameters.glwe_dimension.value + std::size_t{1}; }
  std::size_t steps() const { return small() / parameters.grouping_factor; }
  std::size_t keyswitch_rows() const {
    return (big() - small()) * parameters.keyswitch.level_count;
  }
  const double* matrix(std::size_t step_index) const {
    return bootstrap.data() + step_index * step.matrix_doubles(size() / 2);
  }
  const double* trace_matrix(std::size_t key) const {
    return trace.data() + key * trace_step.matrix_doubles(size() / 2);
  }
};

// Transforms polynomials of torus words into their cells of a step's keys, scaled by a factor.
class MatrixWriter {
 public:
  MatrixWriter(PolynomialSize size, const StepShape& shape, double factor = 1);

  // `row` counts the rows of all keys of the step.
  void write(std::span<const Torus> words, std::size_t row, std::size_t column, double* matrix);

 private:
  const StepShape shape_;
  const FftPlan& plan_;
  const double scale_;
  AlignedBuffer<double> values_, work_, transformed_;
};

}  // namespace torusml
