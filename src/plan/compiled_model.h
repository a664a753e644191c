// What compilation leaves: the circuit, its plan and the client's half.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "circuit/circuit.h"
#include "plan/client_spec.h"
#include "plan/plan.h"

namespace torusml {

// How a node's interval came about; printed by `inspect` and bitwidth_and_range_report.
struct RangeReport {
  std::string name;     // layer
  Interval calibrated;  // what calibration data reached
  Interval guaranteed;  // what the weights allow
  Interval declared;    // what the encoding is built for
  int bits = 0;         // bit_width(declared)
  bool feeds_table = false;
};

struct CompiledModel {
  Circuit circuit;
  Plan plan;
  ClientSpec client;
  std::vector<RangeReport> ranges;
};

}  // namespace torusml
