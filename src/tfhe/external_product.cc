#include "tfhe/external_product.h"

#include <algorithm>

namespace torusml {

ExternalProduct::ExternalProduct(const EvaluationKeys::State& keys, const StepShape& shape,
                                 const Gadget& gadget, std::size_t capacity)
    : kernels_(current_kernels()),
      plan_(fft_plan(keys.parameters.polynomial_size)),
      shape_(shape),
      gadget_(gadget),
      row_stride_(shape.rows / gadget.level_count),
      // The products take the place of the first rows.
      item_doubles_(std::max(shape.rows, shape.columns) * shape.row_pitch),
      rows_(capacity * item_doubles_),
      scratch_(shape.scratch_doubles(plan_.points)),
      items_(capacity) {}

void ExternalProduct::split(std::size_t c, std::size_t p, const Torus* words) {
  kernels_.split_digits(plan_, gadget_, 64, words, rows(c) + p * shape_.row_pitch,
                        row_stride_ * shape_.row_pitch);
}

void ExternalProduct::clear(std::size_t c, std::size_t p) {
  for (std::size_t level = 0; level < gadget_.level_count; ++level) {
    std::fill_n(rows(c) + (level * row_stride_ + p) * shape_.row_pitch, 2 * plan_.points, 0.0);
  }
}

void ExternalProduct::multiply(const double* matrix, std::size_t count, std::uint32_t exponent) {
  for (std::size_t c = 0; c < count; ++c) {
    items_[c].rows = rows(c);
    items_[c].exponents[0] = exponent;
  }
  kernels_.multiply_step(plan_, shape_, matrix, std::span(items_).first(count), scratch_.data());
}

void ExternalProduct::add(std::size_t c, std::size_t p, Torus* words) {
  kernels_.join_add(plan_, 64, rows(c) + p * shape_.row_pitch, words);
}

}  // namespace torusml
