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
#include <vector>

#include "base/memory.h"
#include "tfhe/bootstrap.h"
#include "tfhe/types.h"

namespace torusml {

// Forward and inverse transform of one polynomial. The forward one destroys its input and the
// inverse one is not scaled, so values grow from call to call: after kRepeats calls of each, refill
// before more.
class TransformRunner {
 public:
  static constexpr int kRepeats = 32;

  explicit TransformRunner(PolynomialSize size);

  void refill();   // tiny numbers, with room to grow
  void forward();  // of the values in place
  void inverse();  // of the transformed values, back to their place

  // Largest relative error of one forward and inverse transform.
  double round_trip_error();

 private:
  PolynomialSize size_;
  std::vector<double> original_;
  AlignedBuffer<double> values_, transformed_;
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
