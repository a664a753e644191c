// Noise norms: how much of the independent noise sources reaches a value through the linear maps.
#pragma once

#include <cstddef>
#include <map>
#include <vector>

#include "circuit/circuit.h"

namespace torusml {

// Largest squared L2 norm over the elements of a value, apart for fresh inputs and for bootstrap
// outputs. The composed linear map counts, so a source that is used twice counts coherently. Tables
// of the same operand are counted as fully coherent, which is an upper bound whether they share a
// rotation or not (docs/noise.md). Clear values are no sources.
struct NoiseNorms {
  double fresh = 0, bootstrap = 0;
  // The part of `bootstrap` that comes from the results of one lookup, by node: the largest over
  // the elements for each, so that the sum may exceed `bootstrap`. What coherent tables of
  // different nodes have together is shared out such that a weighted sum remains an upper bound.
  std::map<std::size_t, double> by_lookup;
};

// By ValueId. result_variance: by node, of a lookup's results in units of a bootstrap's variance;
// nodes that it does not name have 1. Cost: products of sparse matrices where linear maps follow
// each other.
std::vector<NoiseNorms> noise_norms(const Circuit& circuit,
                                    const std::map<std::size_t, double>& result_variance = {});

}  // namespace torusml
