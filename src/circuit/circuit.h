// The integer circuit: inputs, linear maps, table lookups, outputs. It knows integers only.
//
//   circuit tiny
//     %0 = input "x" : tensor<2> [-3, 3]
//     %1 = linear dense(%0, @fc1) + @fc1.bias : tensor<4> [-18, 18] "fc1"
//     %2 = lut %1 tables=[@relu1 per-element] : tensor<4> [-18, 18] -> [0, 7] "relu1"
//     output "y" %2
//
// A circuit describes one sample: shapes have no batch axis. Nodes stand in topological order.
// Cost: a linear node needs no bootstrap; a lut needs one per element and table, or fewer where
// tables share rotations (parameters/search.h).
// Thread rule: a value type; const use is concurrent.
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "circuit/sparse_weight.h"
#include "torusml/tensor.h"

namespace torusml {

// Closed interval of integers.
struct Interval {
  std::int64_t lower = 0, upper = 0;

  std::uint64_t size() const { return static_cast<std::uint64_t>(upper - lower) + 1; }
  bool contains(std::int64_t value) const { return lower <= value && value <= upper; }
  friend bool operator==(const Interval&, const Interval&) = default;
};

// Smallest interval that contains both.
Interval hull(Interval a, Interval b);

// Bits that the peer would report for the interval: ceil(log2(upper + 1)) if unsigned, else the
// width of the two's complement integer that holds both ends; at least 1.
int bit_width(Interval interval);

using ValueId = std::uint32_t;

struct TensorType {
  Shape shape;        // of one sample
  Interval interval;  // every element lies in it; the encoding is built for it

  friend bool operator==(const TensorType&, const TensorType&) = default;
};

// y[..., row] = sum over column of data[row * columns + column] * x[..., column], on the last axis.
struct DenseWeight {
  std::int64_t rows = 0, columns = 0;
  std::vector<std::int64_t> data;

  friend bool operator==(const DenseWeight&, const DenseWeight&) = default;
};

// y = factor * x, element by element in flat order (also a reshape).
struct ScaleWeight {
  std::int64_t factor = 1;

  friend bool operator==(const ScaleWeight&, const ScaleWeight&) = default;
};

using Weight = std::variant<DenseWeight, SparseWeight, ScaleWeight>;

struct LinearTerm {
  ValueId operand = 0;
  Weight weight;

  friend bool operator==(const LinearTerm&, const LinearTerm&) = default;
};

struct Input {
  ValueId result = 0;
  bool is_clear = false;  // its integers are no secret from whoever runs the circuit

  friend bool operator==(const Input&, const Input&) = default;
};

// result = bias + sum of terms.
struct Linear {
  std::vector<LinearTerm> terms;
  std::vector<std::int64_t> bias;  // empty, or one integer per element of the result
  ValueId result = 0;

  friend bool operator==(const Linear&, const Linear&) = default;
};

// rows x domain.size() entries; element e of the operand uses row row_of_element[e] (empty: row 0).
struct Table {
  std::string name;  // without '@'
  Interval domain;   // equals the operand's interval
  std::int64_t rows = 1;
  std::vector<std::int64_t> entries;
  std::vector<std::uint32_t> row_of_element;

  std::size_t row_of(std::size_t element) const {
    return row_of_element.empty() ? 0 : row_of_element[element];
  }
  std::int64_t at(std::int64_t element, std::int64_t value) const {
    const std::size_t row = row_of(static_cast<std::size_t>(element));
    return entries[row * domain.size() + static_cast<std::size_t>(value - domain.lower)];
  }
  friend bool operator==(const Table&, const Table&) = default;
};

// results[t] = tables[t](operand), element by element.
struct Lut {
  ValueId operand = 0;
  std::vector<Table> tables;
  std::vector<ValueId> results;

  friend bool operator==(const Lut&, const Lut&) = default;
};

struct Output {
  ValueId operand = 0;

  friend bool operator==(const Output&, const Output&) = default;
};

struct Node {
  std::string name;  // the input's or output's name, or the layer it came from
  std::variant<Input, Linear, Lut, Output> op;

  friend bool operator==(const Node&, const Node&) = default;
};

struct Circuit {
  std::string name;
  std::vector<TensorType> values;  // by ValueId
  std::vector<Node> nodes;

  friend bool operator==(const Circuit&, const Circuit&) = default;
};

// Checks everything that the other functions rely on: shapes, sizes, order, domains, intervals and
// table entries within the declared intervals. Error invalid_circuit names the node.
void verify(const Circuit& circuit);

std::vector<const Node*> input_nodes(const Circuit& circuit);
std::vector<const Node*> output_nodes(const Circuit& circuit);

// By ValueId: whether a value depends on clear inputs and constants alone. These are integers
// wherever the circuit runs, and cost nothing (runtime/clear_part.h). Where no input is clear none
// of them is, constants neither.
std::vector<bool> clear_values(const Circuit& circuit);
// Inputs of these names are clear, all others are not. Errors: unknown_option (no such input),
// invalid_argument (none would be encrypted).
void declare_clear(Circuit& circuit, const std::vector<std::string>& inputs);
// The same by place; inputs beyond the list keep what they are.
void mark_clear(Circuit& circuit, const std::vector<bool>& inputs);

// Number of single-value lookups of encrypted values, for one sample.
std::int64_t lookup_count(const Circuit& circuit);
// Products of a weight and an encrypted number, for one sample.
std::int64_t linear_multiplications(const Circuit& circuit);

// Largest bit_width over all values; -1 for an empty circuit.
int maximum_bit_width(const Circuit& circuit);

// The interval that follows from the inputs' intervals and the weights alone, by ValueId (tables
// map the part of their domain that can be reached). Error accumulator_too_wide beyond 62 bits.
std::vector<Interval> guaranteed_intervals(const Circuit& circuit);

// The same by ValueId and element.
std::vector<std::vector<Interval>> element_intervals(const Circuit& circuit);

// Names of the outputs that are the same for all inputs, as those of a network of too few bits may
// be.
std::vector<std::string> constant_outputs(const Circuit& circuit);

// y += weight * x for one sample, in int64 (verified intervals cannot overflow it).
void apply_weight(const Weight& weight, const std::int64_t* x, std::int64_t x_elements,
                  std::int64_t* y, std::int64_t y_elements);

}  // namespace torusml
