// What compilation leaves: the circuit, its plan and the client's half.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
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

// What precision "auto" is judged by.
enum class Criterion {
  automatic,       // argmax for one output with several elements on its last axis, else the next
  argmax,          // share of samples (and rows of outputs) whose largest element is the same
  relative_error,  // root mean square of the difference over that of the exact outputs
  metric,          // what the caller's metric loses
};

std::string to_string(Criterion criterion);
Criterion parse_criterion(const std::string& text);  // error unknown_option

// How precision "auto" chose (compiler/precision_search.h). Loss: 1 - agreement, the relative
// error, or what the metric lost.
struct PrecisionReport {
  Criterion criterion = Criterion::argmax;
  double most_loss = 0;          // asked for
  double loss = 0;               // on the samples held out
  std::int64_t samples = 0;      // held out
  std::int64_t draws = 0;        // simulations of each of them; 0: the choice is exact
  std::int64_t trials = 0;       // simulations made
  double exact_ms_per_core = 0;  // predicted, of one sample under exact; 0: exact has no parameters
  // What looser targets would buy: choices that were tried, by loss on the samples that the search
  // looked at, each with clearly less predicted time than the choice and than those before it.
  struct Looser {
    double loss = 0, ms_per_core = 0;
  };
  std::vector<Looser> looser;
  // Share of a lookup's results that are not the table's entry of the value that came in, by node,
  // in the simulations of the samples held out.
  std::map<std::size_t, double> flip_rates;
};

struct CompiledModel {
  Circuit circuit;
  Plan plan;
  ClientSpec client;
  std::vector<RangeReport> ranges;
  std::optional<PrecisionReport> precision;  // of precision "auto"
};

}  // namespace torusml
