// Tables and constants in torus words: the part of a plan that the simulated and the encrypted
// executor share.
#pragma once

#include <vector>

#include "circuit/circuit.h"
#include "plan/plan.h"
#include "tfhe/types.h"

namespace torusml {

// Polynomials of one table, M = table_size words a row. Entry i stands for phases
// [i, i + 1) / (2M) - 1/4 of the operand; phases beyond the interval read its end entries.
struct TorusTable {
  std::size_t table_size = 0;
  std::vector<Torus> words;  // rows x table_size
  const Table* table = nullptr;

  const Torus* of_element(std::size_t element) const {
    const std::size_t row = table->row_of_element.empty() ? 0 : table->row_of_element[element];
    return words.data() + row * table_size;
  }
};

TorusTable make_torus_table(const Table& table, const TensorPlan& operand, const TensorPlan& result,
                            std::size_t table_size);

std::size_t table_size(const Plan& plan, const LookupPlan& lookup);

// Added to the body before a lookup: a quarter turn, so that the interval's middle reads the
// table's middle, less half a table step, so that rounding to the nearest index is a floor.
Torus lookup_offset(std::size_t table_size);

// One word per element of the result: the bias and what the centres of operands and result leave.
std::vector<Torus> linear_constants(const Circuit& circuit, const Linear& linear, const Plan& plan);

}  // namespace torusml
