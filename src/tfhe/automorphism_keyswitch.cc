#include "tfhe/automorphism_keyswitch.h"

#include <bit>

namespace torusml {
namespace {

constexpr std::size_t kColumns = 2;  // mask and body

// out(X) = in(X^power) modulo X^N + 1, power odd.
void apply_automorphism(const Torus* in, std::size_t size, std::size_t power, Torus* out) {
  const std::size_t period = 2 * size;
  for (std::size_t j = 0, to = 0; j < size; ++j, to = (to + power) & (period - 1)) {
    const Torus sign = 0 - static_cast<Torus>((to & size) != 0);
    out[to & (size - 1)] = (in[j] ^ sign) - sign;
  }
}

}  // namespace

AutomorphismKeyswitch::AutomorphismKeyswitch(const EvaluationKeys::State& keys,
                                             std::size_t capacity)
    : keys_(keys),
      product_(keys, keys.trace_step, keys.parameters.trace, capacity),
      image_(keys.size()) {}

void AutomorphismKeyswitch::add_images(std::size_t power_log2, const Torus* operands,
                                       std::size_t count, Torus* targets) {
  const std::size_t size = keys_.size(), power = (std::size_t{1} << power_log2) + 1;
  const std::size_t key = static_cast<std::size_t>(std::countr_zero(size)) - power_log2;
  for (std::size_t c = 0; c < count; ++c) {
    const Torus *mask = operands + c * kColumns * size, *body = mask + size;
    apply_automorphism(mask, size, power, image_.data());
    product_.split(c, 0, image_.data());
    apply_automorphism(body, size, power, image_.data());
    Torus* target = targets + (c * kColumns + 1) * size;
    for (std::size_t j = 0; j < size; ++j) target[j] += image_[j];
  }
  product_.multiply(keys_.trace_matrix(key), count, static_cast<std::uint32_t>(size));
  for (std::size_t c = 0; c < count; ++c) {
    for (std::size_t p = 0; p < kColumns; ++p)
      product_.add(c, p, targets + (c * kColumns + p) * size);
  }
}

}  // namespace torusml
