// Nodes computed on the integers of one sample. Pure functions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "circuit/circuit.h"

namespace torusml {

using SampleIntegers = std::vector<std::vector<std::int64_t>>;  // by ValueId

// sums += weight * operand.
void add_term(const LinearTerm& term, const SampleIntegers& values,
              std::vector<std::int64_t>& sums);

// bias + sum of terms; `elements` of the result.
std::vector<std::int64_t> linear_sums(const Linear& linear, const SampleIntegers& values,
                                      std::size_t elements);

// Entries of an operand's elements; integers beyond the domain have that of its end, as phases
// have.
std::vector<std::int64_t> table_entries(const Table& table,
                                        const std::vector<std::int64_t>& operand);

}  // namespace torusml
