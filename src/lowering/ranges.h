// Intervals of accumulators: what the calibration data reach, and what the
// weights allow.
#pragma once

#include <string>
#include <vector>

#include "circuit/circuit.h"

namespace torusml {

// By element; integers held in doubles.
struct ElementRanges {
  std::vector<double> lower, upper;

  Interval hull() const;
};

ElementRanges uniform_ranges(std::int64_t elements, Interval interval);

// Of samples that stand one after the other.
ElementRanges measured_ranges(const std::vector<double>& samples, std::int64_t elements);

// y += weight * x. Error accumulator_too_wide beyond 53 bits, naming the layer.
void add_ranges(const Weight& weight, const ElementRanges& x, ElementRanges& y,
                const std::string& layer);

// Leaves what lies in the interval.
void clip_ranges(Interval interval, ElementRanges& ranges);

// What a table makes of the part of its domain that can be reached.
ElementRanges table_ranges(const Table& table, const ElementRanges& x);

// The calibrated interval with `margin` of its width on each side, within the
// guaranteed one; the latter itself, with prefer_guaranteed_same_bits, where it
// needs no more bits.
Interval declared_interval(Interval calibrated, Interval guaranteed, double margin,
                           bool prefer_guaranteed_same_bits);

// ceil(log2(size)): bits of a lookup on the interval.
int size_bits(Interval interval);

}  // namespace torusml
