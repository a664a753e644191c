#include "tfhe/circuit_bootstrap.h"

#include <algorithm>
#include <bit>

namespace torusml {
namespace {

constexpr std::size_t kColumns = 2;  // mask and body

}  // namespace

StepShape ggsw_shape(const TfheParameters& parameters) {
  return {.keys = 1,
          .rows = kColumns * parameters.circuit_bootstrap.level_count,
          .columns = kColumns,
          .row_pitch = row_pitch(parameters.polynomial_size.value)};
}

CircuitBootstrap::CircuitBootstrap(const EvaluationKeys::State& keys, std::size_t capacity)
    : keys_(keys),
      ggsw_(ggsw_shape(keys.parameters)),
      keyswitch_(keys, capacity),
      row_(kColumns * keys.size()) {}

void CircuitBootstrap::trace(Torus* glwes, std::size_t count) {
  for (auto level = static_cast<std::size_t>(std::countr_zero(keys_.size())); level > 0; --level)
    keyswitch_.add_images(level, glwes, count, glwes);
}

// With m the phase, a row (A, B) of m becomes the row of -S m = -S B + S^2 A: (B, 0) plus the
// product of A with the key of S^2.
void CircuitBootstrap::make_ggsw(const Torus* glwes, double factor, double* matrix) {
  const std::size_t size = keys_.size(), levels = keys_.parameters.circuit_bootstrap.level_count;
  const auto square = static_cast<std::size_t>(std::countr_zero(size));
  ExternalProduct& product = keyswitch_.product();
  MatrixWriter writer(keys_.parameters.polynomial_size, ggsw_, factor);
  for (std::size_t level = 0; level < levels; ++level) {
    const Torus *mask = glwes + level * kColumns * size, *body = mask + size;
    product.split(0, 0, mask);
    product.multiply(keys_.trace_matrix(square), 1, static_cast<std::uint32_t>(size));
    std::copy_n(body, size, row_.data());
    std::fill_n(row_.data() + size, size, Torus{0});
    for (std::size_t p = 0; p < kColumns; ++p) {
      product.add(0, p, row_.data() + p * size);
      writer.write({row_.data() + p * size, size}, level * kColumns, p, matrix);
      writer.write({(p == 0 ? mask : body), size}, level * kColumns + 1, p, matrix);
    }
  }
}

VerticalPacking::VerticalPacking(const EvaluationKeys::State& keys)
    : keys_(keys),
      product_(keys, ggsw_shape(keys.parameters), keys.parameters.circuit_bootstrap, kMostItems),
      difference_(kColumns * keys.size()) {}

void VerticalPacking::run(std::span<const double* const> matrices, const WideTable& table,
                          Torus* glwes) {
  const std::size_t size = keys_.size(), count = table.packed();
  const std::size_t rotated =
      std::min<std::size_t>(matrices.size(), static_cast<std::size_t>(std::countr_zero(size)));
  for (std::size_t c = 0; c < count; ++c) {
    choose(matrices.subspan(rotated), table.polynomials(c), table.leaves(),
           glwes + c * kColumns * size);
  }
  for (std::size_t first = 0; first < count; first += product_.capacity()) {
    const std::size_t some = std::min(count - first, product_.capacity());
    Torus* glwe = glwes + first * kColumns * size;
    for (std::size_t bit = 0; bit < rotated; ++bit) {
      for (std::size_t q = 0; q < some * kColumns; ++q)
        product_.split(q / kColumns, q % kColumns, glwe + q * size);
      product_.multiply(matrices[bit], some, static_cast<std::uint32_t>(2 * size - (1u << bit)));
      for (std::size_t q = 0; q < some * kColumns; ++q)
        product_.add(q / kColumns, q % kColumns, glwe + q * size);
    }
  }
}

// The leaf that the bits name, the lowest bit first: each bit halves the number of candidates.
void VerticalPacking::choose(std::span<const double* const> matrices, const Torus* leaves,
                             std::size_t count, Torus* glwe) {
  const std::size_t size = keys_.size(), glwe_words = kColumns * size;
  if (count == 1) {
    std::fill_n(glwe, size, Torus{0});
    std::copy_n(leaves, size, glwe + size);
    return;
  }
  if (nodes_.size() < count / 2 * glwe_words) nodes_ = AlignedBuffer<Torus>(count / 2 * glwe_words);
  bool is_trivial = true;  // leaves have no mask
  for (const double* matrix : matrices) {
    const std::size_t pairs = count / 2;
    for (std::size_t first = 0; first < pairs; first += product_.capacity()) {
      const std::size_t some = std::min(pairs - first, product_.capacity());
      for (std::size_t c = 0; c < some; ++c) {
        const std::size_t node = first + c;
        Torus* target = nodes_.data() + node * glwe_words;
        if (is_trivial) {
          const Torus *zero = leaves + 2 * node * size, *one = zero + size;
          for (std::size_t j = 0; j < size; ++j) difference_[j] = one[j] - zero[j];
          product_.clear(c, 0);
          product_.split(c, 1, difference_.data());
          std::fill_n(target, size, Torus{0});
          std::copy_n(zero, size, target + size);
        } else {
          const Torus *zero = nodes_.data() + 2 * node * glwe_words, *one = zero + glwe_words;
          for (std::size_t j = 0; j < glwe_words; ++j) difference_[j] = one[j] - zero[j];
          for (std::size_t p = 0; p < kColumns; ++p)
            product_.split(c, p, difference_.data() + p * size);
          if (target != zero) std::copy_n(zero, glwe_words, target);
        }
      }
      product_.multiply(matrix, some, static_cast<std::uint32_t>(size));
      for (std::size_t q = 0; q < some * kColumns; ++q)
        product_.add(q / kColumns, q % kColumns, nodes_.data() + first * glwe_words + q * size);
    }
    is_trivial = false;
    count = pairs;
  }
  std::copy_n(nodes_.data(), glwe_words, glwe);
}

}  // namespace torusml
