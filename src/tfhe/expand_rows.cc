#include "tfhe/expand_rows.h"

#include <fmt/format.h>

#include "random/generator.h"
#include "torusml/error.h"

namespace torusml {

LweBatch expand_rows(const SeededLweBatch& seeded, std::size_t first, std::size_t count) {
  const std::size_t all = seeded.bodies.size();
  if (seeded.dimension.value == 0) {
    throw Error(ErrorCode::invalid_argument,
                fmt::format("{} seeded ciphertexts have dimension 0", all));
  }
  if (first > all || count > all - first) {
    throw Error(ErrorCode::invalid_argument,
                fmt::format("{} ciphertexts from row {} on are asked for, there are {}", count,
                            first, all));
  }
  LweBatch batch(seeded.dimension, count);
  PublicGenerator masks(seeded.seed);
  masks.seek(std::uint64_t{first} * seeded.dimension.value * sizeof(Torus));
  for (std::size_t i = 0; i < count; ++i) {
    const auto row = batch.row(i);
    masks.fill(row.first(seeded.dimension.value));
    row[seeded.dimension.value] = seeded.bodies[first + i];
  }
  return batch;
}

}  // namespace torusml
