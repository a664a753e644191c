// Results of lookups that several nodes read, one for each torus scale that those need.
//
// A linear map keeps its operands' torus scale, so a value that both a convolution of hundreds of
// values and the sum of a residual connection read makes the sum's few values as small on the torus
// as the convolution's: a lookup of 6 bits then costs what one of 9 bits does. A second table of
// the same accumulator, equal to the first, unties them for one more rotation at most.
#pragma once

#include "circuit/circuit.h"

namespace torusml {

// Copies the table behind a result for groups of its readers that need scales at least four times
// apart and that nothing else ties together. Every output keeps its value; the same circuit, if
// there is nothing to copy. Whether it saves time is for a plan to say.
Circuit separate_scales(const Circuit& circuit);

}  // namespace torusml
