#include "tfhe/ciphertext.h"

#include "tfhe/expand_rows.h"

namespace torusml {

LweBatch expand(const SeededLweBatch& seeded) {
  return expand_rows(seeded, 0, seeded.bodies.size());
}

}  // namespace torusml
