// Some rows of a seeded batch, for those that work on a part of it.
//
//   LweBatch rows = expand_rows(seeded, 16, 8);   // rows 16 to 23 of expand(seeded)
//
// Thread rule: pure function. Cost: masks of these rows alone, about 2 ns a word.
#pragma once

#include <cstddef>

#include "tfhe/ciphertext.h"

namespace torusml {

// Error invalid_argument when the batch has no such rows.
LweBatch expand_rows(const SeededLweBatch& seeded, std::size_t first, std::size_t count);

}  // namespace torusml
