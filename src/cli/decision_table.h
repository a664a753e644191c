// What was decided for each lookup and output, as a table for people and as JSON.
//
//   fmt::print("{}", decision_table(model));
//
// Columns: layer, tables read for one sample, bits of the accumulator, policy and tolerance,
// effective bits (docs/glossary.md), flip rate, milliseconds of one core, key set. The flip rate is
// the one that precision "auto" measured, or else the predicted one for values drawn uniformly.
// Pure functions.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "compiler/bits_search.h"
#include "plan/compiled_model.h"

namespace torusml {

// One line for each layer of a choice of bits, and how it was judged.
std::string bits_text(const BitsReport& report);
nlohmann::json bits_json(const BitsReport& report);

std::string decision_table(const CompiledModel& model);
nlohmann::json decision_json(const CompiledModel& model);

// "99.62 % of predictions as under exact on 667 samples held out (asked for 99.5 %)", or what else
// the criterion is; the model has a precision report.
std::string precision_text(const PrecisionReport& report);
// A line of the times that looser targets would take; empty where there are none.
std::string looser_text(const PrecisionReport& report);

}  // namespace torusml
