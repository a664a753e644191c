// The cost table that choices rest on unless a caller brings another one: the same on every
// machine, so that compiling a network gives the same keys everywhere.
#pragma once

#include "parameters/cost_table.h"

namespace torusml {

// `torusml bench calibrate` on one Zen3 core with AVX2 (3.0 GHz), the medians of three runs, with
// sizes that a run could not resolve put on the line of their neighbours.
inline constexpr CostTable kShippedCostTable{
    .polynomials = {{{92.0, 9.0},
                     {150.0, 17.0},
                     {262.0, 32.0},
                     {490.0, 62.0},
                     {1060.0, 120.0},
                     {2225.0, 232.0},
                     {4700.0, 520.0},
                     {11000.0, 1050.0},
                     {23500.0, 2300.0},
                     {60000.0, 4600.0},
                     {150000.0, 10000.0}}},
    .keyswitch_ns = 0.043,
    .linear_ns = 0.097,
    .narrow_accumulator = 0.99,
};

}  // namespace torusml
