// Readers: lookups and outputs, where a phase is read and so where noise matters. Lookups of clear
// values are none.
//
// Linear maps keep their operands' torus scale, so the values that they tie together form a group
// with one scale; clear ones apart, which are added as integers. Cost: one pass over the circuit.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "circuit/circuit.h"
#include "plan/plan.h"

namespace torusml {

struct Reader {
  std::size_t node = 0;
  ValueId operand = 0;
  ValueId group = 0;
  bool is_lookup = false;
  std::uint64_t values = 1;    // of the interval
  std::uint64_t reach = 0;     // of an odd lookup, most values on either side of its steps
  std::uint64_t odd_half = 0;  // boxes of either half torus before an odd lookup; 0: it is not odd
  std::uint64_t count = 0;     // numbers read for one sample
  std::uint64_t tables = 0;    // of each number; 0 for an output
  Precision policy = Precision::exact;
  double tolerance = 0;  // of a tolerant one
  int wire_bits = 64;    // of an output
  bool packed = false;   // of an output

  double width() const { return static_cast<double>(values - 1); }
  // Every table read, and every output value, may fail.
  double events() const {
    return static_cast<double>(count) * static_cast<double>(is_lookup ? tables : 1);
  }
};

struct Readers {
  std::vector<Reader> readers;    // in the order of nodes
  std::vector<ValueId> group_of;  // by value of the circuit
};

// With the policies and tolerances that the options give them. Errors: invalid_argument (a policy
// is still "auto"), unknown_option (no layer of this name).
Readers find_readers(const Circuit& circuit, const PlanOptions& options);

// Error accumulator_too_wide names the layer, its interval and the way out.
void check_width(const Circuit& circuit, const PlanOptions& options, const Reader& reader);

// Whether a lookup is exact and has enough values to be a wide one.
bool may_be_wide(const Reader& reader);

// How errors name its layer.
std::string layer_of(const Circuit& circuit, const Reader& reader);
// What may be asked for in place of exact lookups: for hints.
std::string tolerant_way(const PlanOptions& options);

}  // namespace torusml
