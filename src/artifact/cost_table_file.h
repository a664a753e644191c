// Cost tables as JSON files, written by a measurement and read by `--cost-table`.
//
//   save_cost_table(table, "here.json");
//   options.cost_table = load_cost_table("here.json");
//
//   {"polynomials": [{"size": 64, "transform_ns": 32.4, "multiply_ns": 10.3}, ...],
//    "keyswitch_ns": 0.06, "linear_ns": 0.15, "narrow_accumulator": 0.97}
//
// Thread rule: any thread.
#pragma once

#include <string>

#include "parameters/cost_table.h"

namespace torusml {

std::string cost_table_text(const CostTable& table);
// `name` is for errors: file_corrupt where the text is not JSON, a field is missing, or a time is
// not positive.
CostTable parse_cost_table(const std::string& text, const std::string& name);

void save_cost_table(const CostTable& table, const std::string& path);  // error file_unwritable
CostTable load_cost_table(const std::string& path);  // errors file_unreadable, file_corrupt

}  // namespace torusml
