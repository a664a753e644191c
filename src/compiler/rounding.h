// Rounding of accumulators before their tables: what the compatible argument
// rounding_threshold_bits asks for.
//
//   std::optional<Rounding> rounding = parse_rounding("6:approximate", "--rounding");
//   options.precision = parse_precision(precision_with("", rounding));   // tolerant
//
// A layer whose accumulators take w bits (with sign) on calibration data rounds its
// l = max(0, w - bits) lowest bits away: x becomes floor((x + 2^(l-1)) / 2^l) 2^l. It is the table
// that rounds. Method exact gives just that, under precision `rounded`; method approximate plans
// tolerant lookups whose noise stays within half a unit of what is left, but for p_error.
#pragma once

#include <optional>
#include <string>

#include "plan/plan.h"

namespace torusml {

enum class RoundingMethod { exact, approximate };

struct Rounding {
  int bits = 8;  // 2 to 8
  RoundingMethod method = RoundingMethod::exact;
};

std::string to_string(RoundingMethod method);

// "6", "6:exact" or "6:approximate", any case; empty: none. `where` is the option's name. Errors:
// unsupported_bits, not_supported ("auto"), unknown_option.
std::optional<Rounding> parse_rounding(const std::string& text, const std::string& where);

// The precision that `precision` and rounding ask for together; empty: without rounding auto, the
// default of a whole compilation, and otherwise what rounding needs. Error invalid_argument where
// they contradict each other.
std::string precision_with(const std::string& precision, const std::optional<Rounding>& rounding);

// The options for a plan of a network so rounded. Errors: invalid_argument, profile_forbids.
PlanOptions with_rounding(PlanOptions options, const std::optional<Rounding>& rounding);

}  // namespace torusml
