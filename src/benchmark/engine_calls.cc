#include "benchmark/engine_calls.h"

#include <algorithm>
#include <cmath>

#include "tfhe/kernels.h"
#include "tfhe/prepared_keys.h"
#include "tfhe/secret_keys.h"

namespace torusml {

TransformRunner::TransformRunner(PolynomialSize size)
    : size_(size),
      values_(size.value),
      work_(size.value),
      transformed_(size.value),
      result_(size.value) {
  for (std::size_t j = 0; j < values_.size(); ++j) {
    values_[j] = static_cast<double>(j * 2654435761u % 1024) - 511.5;
  }
}

void TransformRunner::forward() {
  current_kernels().forward(fft_plan(size_), values_.data(), work_.data(), transformed_.data());
}

void TransformRunner::inverse() {
  current_kernels().inverse(fft_plan(size_), transformed_.data(), work_.data(), result_.data());
}

double TransformRunner::round_trip_error() {
  forward();
  inverse();
  const double scale = 2.0 / size_.value;
  double largest = 0;
  for (std::size_t j = 0; j < values_.size(); ++j) {
    largest = std::max(largest, std::abs(result_[j] * scale - values_[j]));
  }
  return largest / 512;
}

namespace {

EvaluationKeys make_keys(const TfheParameters& parameters) {
  SecretGenerator random;
  return EvaluationKeys::prepare(
      make_evaluation_keys(SecretKeys::generate(parameters, random), random));
}

}  // namespace

// Times do not depend on the values: exponents are odd, as nearly all are, and spread.
RotationRunner::RotationRunner(const TfheParameters& parameters, std::size_t batch)
    : keys_(make_keys(parameters)),
      table_(parameters.polynomial_size.value),
      tables_(batch, table_.data()),
      switched_(batch * (parameters.small_dimension.value + std::size_t{1})),
      rotation_(std::make_unique<BlindRotation>(keys_.state(), 0, batch)) {
  const std::uint32_t turn = 2 * parameters.polynomial_size.value;
  for (std::size_t i = 0; i < switched_.size(); ++i) {
    switched_[i] = (static_cast<std::uint32_t>(i) * 2654435761u | 1) % turn;
  }
}

void RotationRunner::run() { rotation_->run(switched_.data(), tables_); }

std::size_t RotationRunner::steps() const { return keys_.state().steps(); }

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
