// Images of GLWE ciphertexts (k = 1) under X -> X^t, brought back under their key, on one thread.
// Internal to this room.
//
//   AutomorphismKeyswitch keyswitch(keys, 1);
//   keyswitch.add_images(3, glwe, 1, glwe);  // t = 2^3 + 1: phase + phase(X^9)
//
// The keys are those of the trace. A ciphertext is 2 N words, mask and body. Cost of an image: l
// forward and 2 inverse transforms.
#pragma once

#include <cstddef>

#include "base/memory.h"
#include "tfhe/external_product.h"

namespace torusml {

class AutomorphismKeyswitch {
 public:
  // At most `capacity` ciphertexts at once.
  AutomorphismKeyswitch(const EvaluationKeys::State& keys, std::size_t capacity);

  // Adds to each target the image of its operand for t = 2^power_log2 + 1, 1 <= power_log2 <= log2
  // N; ciphertexts lie one after the other. Operands may be the targets.
  void add_images(std::size_t power_log2, const Torus* operands, std::size_t count, Torus* targets);

  // Of the trace's keys, for what else multiplies by them.
  ExternalProduct& product() { return product_; }

 private:
  const EvaluationKeys::State& keys_;
  ExternalProduct product_;
  AlignedBuffer<Torus> image_;
};

}  // namespace torusml
