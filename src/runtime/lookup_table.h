// Tables and constants in torus words: the part of a plan that the simulated and the encrypted
// executor share.
#pragma once

#include <vector>

#include "circuit/circuit.h"
#include "plan/plan.h"
#include "tfhe/types.h"
#include "tfhe/wide_lookup.h"

namespace torusml {

// Polynomials of one table, M = table_size words a row. Entry i stands for phases
// [i, i + 1) / (2M) - 1/4 of the operand; phases beyond the interval read its end entries. Of an
// odd lookup, words are plus or minus half the height of the step, and the result's constant is to
// be added to what they give.
struct TorusTable {
  std::size_t table_size = 0;
  std::vector<Torus> words;  // rows x table_size
  const Table* table = nullptr;
  std::vector<Torus> constants;  // by row, of an odd lookup

  const Torus* of_element(std::size_t element) const {
    return words.data() + table->row_of(element) * table_size;
  }
  Torus constant_of(std::size_t element) const {
    return constants.empty() ? Torus{0} : constants[table->row_of(element)];
  }
};

TorusTable make_torus_table(const Table& table, const TensorPlan& operand, const TensorPlan& result,
                            std::size_t table_size);
// Of an odd lookup. Error invalid_circuit if a row is no step.
TorusTable make_odd_table(const Table& table, const TensorPlan& operand, const TensorPlan& result,
                          std::size_t table_size);
// All tables of an ordinary lookup.
std::vector<TorusTable> make_torus_tables(const Lut& lut, const Plan& plan,
                                          const LookupPlan& lookup);

// Entries of a table of an ordinary lookup.
std::size_t table_size(const Plan& plan, const LookupPlan& lookup);

// Added to the body before a lookup: a quarter turn, so that the interval's middle reads the
// table's middle, less half a table step, so that rounding to the nearest index is a floor.
Torus lookup_offset(std::size_t table_size);

// Tables of wide lookups: index i of a table of 2^index_bits entries stands for the value
// wide_first_value + i, and values beyond the interval read its end entries.
std::int64_t wide_first_value(Interval interval, const WideShape& shape);

// Added to the body before a wide lookup: takes every value to the middle of its index's box.
Torus wide_offset(Interval interval, const TensorPlan& operand, const WideShape& shape);

// By row. `interval` is the operand's.
std::vector<WideTable> make_wide_tables(const Table& table, Interval interval,
                                        const TensorPlan& result, const WideShape& shape,
                                        PolynomialSize size);

// The words that they stand for, as the simulator reads them.
TorusTable make_wide_torus_table(const Table& table, Interval interval, const TensorPlan& result,
                                 const WideShape& shape);

// One word per element of the result: the bias and what the centres of operands and result leave.
// Clear terms are not in it: they add integers (clear_part.h). is_clear: clear_values(circuit).
std::vector<Torus> linear_constants(const Circuit& circuit, const Linear& linear, const Plan& plan,
                                    const std::vector<bool>& is_clear);

}  // namespace torusml
