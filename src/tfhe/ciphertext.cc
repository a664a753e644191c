#include "tfhe/ciphertext.h"

#include <fmt/format.h>

#include "random/generator.h"
#include "torusml/error.h"

namespace torusml {

LweBatch expand(const SeededLweBatch& seeded) {
  if (seeded.dimension.value == 0) {
    throw Error(ErrorCode::invalid_argument,
                fmt::format("{} seeded ciphertexts have dimension 0", seeded.bodies.size()));
  }
  LweBatch batch(seeded.dimension, seeded.bodies.size());
  PublicGenerator masks(seeded.seed);
  for (std::size_t i = 0; i < batch.count; ++i) {
    const auto row = batch.row(i);
    masks.fill(row.first(seeded.dimension.value));
    row[seeded.dimension.value] = seeded.bodies[i];
  }
  return batch;
}

}  // namespace torusml
