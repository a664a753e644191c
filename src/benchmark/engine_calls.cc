#include "benchmark/engine_calls.h"

#include <algorithm>
#include <cmath>

#include "tfhe/kernels.h"
#include "tfhe/prepared_keys.h"
#include "tfhe/stages.h"

namespace torusml {

// A transform of 2^15 points grows values by 2^15 at most, so kRepeats of each stay below 2^60.
TransformRunner::TransformRunner(PolynomialSize size)
    : size_(size), original_(size.value), values_(size.value), transformed_(size.value) {
  for (std::size_t j = 0; j < original_.size(); ++j) {
    const double digit = static_cast<double>(j * 2654435761u % 1024) - 511.5;
    original_[j] = std::ldexp(digit, -910);
  }
  refill();
}

void TransformRunner::refill() { std::ranges::copy(original_, values_.begin()); }

void TransformRunner::forward() {
  current_kernels().forward(fft_plan(size_), values_.data(), transformed_.data());
}

void TransformRunner::inverse() {
  current_kernels().inverse(fft_plan(size_), transformed_.data(), values_.data());
}

double TransformRunner::round_trip_error() {
  refill();
  forward();
  inverse();
  const double scale = 2.0 / size_.value;
  double largest = 0;
  for (std::size_t j = 0; j < original_.size(); ++j) {
    largest = std::max(largest, std::abs(values_[j] * scale - original_[j]));
  }
  refill();
  return largest / std::ldexp(512, -910);
}

KeyswitchRunner::KeyswitchRunner(const EvaluationKeys& keys, const LweBatch& inputs)
    : keys_(keys), inputs_(inputs), small_(inputs.count * keys.state().keyswitch_pitch) {}

void KeyswitchRunner::run() {
  keyswitch_block(keys_.state(), inputs_, 0, inputs_.count, small_.data());
}

std::vector<std::uint32_t> KeyswitchRunner::phases(std::span<const std::uint64_t> small_key) const {
  std::vector<std::uint32_t> phases(inputs_.count);
  for (std::size_t c = 0; c < phases.size(); ++c) {
    const std::uint32_t* row = small_.data() + c * keys_.state().keyswitch_pitch;
    phases[c] = row[small_key.size()];
    for (std::size_t i = 0; i < small_key.size(); ++i) {
      phases[c] -= row[i] * static_cast<std::uint32_t>(small_key[i]);
    }
  }
  return phases;
}

}  // namespace torusml
