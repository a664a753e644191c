// How probable it is that noise makes a lookup read another entry of its table.
//
// `spread` is the noise's standard deviation in units of one integer. Cost: O(entries).
#pragma once

#include <cstddef>
#include <vector>

#include "circuit/circuit.h"
#include "plan/plan.h"

namespace torusml {

// By border between neighbouring values of the interval: how far above the middle between them
// the table has it, in units of one integer. Entry i of the table covers phases from i / 2M - 1/4
// on, and its middle says whose it is.
std::vector<double> border_shifts(Interval interval, const TensorPlan& tensor,
                                  std::size_t table_size);

// That noise crosses a border whose middle is `distance` away, on either side; mean over borders.
double cross_probability(double distance, const std::vector<double>& shifts, double spread);

// Mean over the values of the interval and the elements of the probability that the noise leaves
// the run of equal entries around a value. An upper bound where entries recur beyond the
// neighbouring run.
double mean_flip_probability(const Lut& lut, double spread, const std::vector<double>& shifts);

}  // namespace torusml
