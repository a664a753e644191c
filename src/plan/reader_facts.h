// What a compiled model decided about each lookup and output, for tables, reports and bindings.
//
//   for (const ReaderFacts& reader : describe_readers(model))
//     std::cout << reader.name << ": " << reader.bits << " bits, " << reader.ms << " ms\n";
//
// Pure function. Cost: one pass over the circuit.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "plan/compiled_model.h"

namespace torusml {

struct ReaderFacts {
  std::string name;
  bool is_lookup = false;
  Interval interval;  // of the value that is read
  int bits = 0;       // of that interval
  Precision policy = Precision::exact;
  double tolerance = 0;
  double sigma = 0;  // of the noise, in units of one integer
  std::optional<double> effective_bits;
  double flip = 0, wrap = 0;  // probabilities (LookupPlan, OutputPlan)
  // Of a lookup alone.
  std::int64_t tables = 0;              // read for one sample
  double step = 0, far = 0;             // probabilities
  double ms = 0;                        // predicted, one core, one sample
  std::string key_set;                  // its name
  std::optional<double> measured_flip;  // by precision "auto", where it simulated
};

// In the circuit's order; without lookups of clear values, which are no readers (readers.h).
std::vector<ReaderFacts> describe_readers(const CompiledModel& model);

}  // namespace torusml
