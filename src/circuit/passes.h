// Rewrites of a circuit. Each is a pure function named by what it does and keeps every output's
// value.
//
//   Circuit small = run_passes(circuit, [](const Pass& pass, const Circuit& after) { ... });
//
#pragma once

#include <functional>
#include <span>
#include <string_view>

#include "circuit/circuit.h"

namespace torusml {

struct Pass {
  std::string_view name;
  std::string_view summary;
  Circuit (*run)(const Circuit&);
};

// In the order in which run_passes applies them.
std::span<const Pass> passes();

using PassObserver = std::function<void(const Pass& pass, const Circuit& after)>;
Circuit run_passes(const Circuit& circuit, const PassObserver& observer = {});

// Lookups of one value become one node with several tables; equal tables become one.
Circuit share_lookups(const Circuit& circuit);
// A table that is an integer affine function of its operand becomes a linear map, which needs no
// bootstrap.
Circuit fold_affine_luts(const Circuit& circuit);
// Drops nodes and tables that no output depends on, and numbers values without gaps. Inputs stay.
Circuit remove_dead_nodes(const Circuit& circuit);

}  // namespace torusml
