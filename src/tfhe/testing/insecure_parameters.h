// For tests: parameters far below any security level, under which a bootstrap takes microseconds.
#pragma once

#include "tfhe/types.h"

namespace torusml {

inline constexpr TfheParameters kInsecure{.small_dimension = {12},
                                          .glwe_dimension = {1},
                                          .polynomial_size = {256},
                                          .bootstrap = {.base_log2 = 9, .level_count = 4},
                                          .keyswitch = {.base_log2 = 4, .level_count = 6},
                                          .small_variance = {0x1p-56},
                                          .glwe_variance = {0x1p-110}};

}  // namespace torusml
