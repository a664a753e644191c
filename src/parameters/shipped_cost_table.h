// The cost table that choices rest on unless a caller brings another one: the same on every
// machine, so that compiling a network gives the same keys everywhere.
#pragma once

#include "parameters/cost_table.h"

namespace torusml {

// One Zen3 core with AVX2, batches of 16. N = 2048 is measured on a prototype of the kernels; the
// other degrees follow N log2 N (transform) and N (multiply).
inline constexpr CostTable kShippedCostTable{
    .polynomials = {{{32.4, 10.3},
                     {75.6, 20.6},
                     {172.7, 41.3},
                     {388.6, 82.5},
                     {863.6, 165.0},
                     {1900.0, 330.0},
                     {4145.5, 660.0},
                     {8981.8, 1320.0},
                     {19345.5, 2640.0},
                     {41454.5, 5280.0},
                     {88436.4, 10560.0}}},
    .keyswitch_ns = 0.06,
    .linear_ns = 0.15,
    .narrow_accumulator = 0.97,
};

}  // namespace torusml
