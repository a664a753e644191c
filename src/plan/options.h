// What may be asked of a plan. For the planner; callers know plan.h.
#pragma once

#include <string>

#include "plan/plan.h"

namespace torusml {

// p_error where nothing is asked for under shared_results, and the most that may be.
inline constexpr double kDefaultShared = 0x1p-128;

// Errors: invalid_argument, profile_forbids.
void check_options(const PlanOptions& options);

// Of one lookup or output: as asked for, or global_p_error's share of so many events, or the
// profile's default. Error p_error_out_of_range.
double resolve_p_error(const PlanOptions& options, double events);

// How errors name a layer.
std::string layer_text(const std::string& name);

}  // namespace torusml
