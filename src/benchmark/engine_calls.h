// The inner calls of the engine that are measured one by one. All that this room knows of the
// kernels' signatures is here.
//
//   TransformRunner runner({2048});
//   runner.forward();
//   runner.inverse();
//
// Thread rule: one runner per thread.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "base/memory.h"
#include "tfhe/bootstrap.h"
#include "tfhe/stages.h"
#include "tfhe/types.h"

namespace torusml {

// Forward and inverse transform of one polynomial, out of place.
class TransformRunner {
 public:
  explicit TransformRunner(PolynomialSize size);

  void forward();
  void inverse();  // of what forward left

  // Largest relative error of one forward and inverse transform.
  double round_trip_error();

 private:
  PolynomialSize size_;
  AlignedBuffer<double> values_, work_, transformed_, result_;
};

// Blind rotations alone, of `batch` ciphertexts under keys made for them, on the calling thread.
class RotationRunner {
 public:
  RotationRunner(const TfheParameters& parameters, std::size_t batch);
  void run();
  std::size_t steps() const;

 private:
  EvaluationKeys keys_;
  std::vector<Torus> table_;
  std::vector<const Torus*> tables_;
  std::vector<std::uint32_t> switched_;
  std::unique_ptr<BlindRotation> rotation_;
};

// The keyswitch alone, of all inputs as one block on the calling thread.
class KeyswitchRunner {
 public:
  KeyswitchRunner(const EvaluationKeys& keys, const LweBatch& inputs);
  void run();
  // Phases of the last run's results under the small key, as 32-bit torus words.
  std::vector<std::uint32_t> phases(std::span<const std::uint64_t> small_key) const;

 private:
  const EvaluationKeys& keys_;
  const LweBatch& inputs_;
  AlignedBuffer<std::uint32_t> small_;
};

}  // namespace torusml
