// What searches ask of plans: their predicted time, and whether there is one at all.
#pragma once

#include "plan/plan.h"
#include "torusml/error.h"

namespace torusml {

// Errors of make_plan that ask too much of key sets: fewer bits, say, may be possible.
bool is_too_demanding(const Error& error);

// Whether it is that results which are to be packed cannot be: other bits or tolerances may have
// other key sets, which can.
bool cannot_pack(const Error& error, const PlanOptions& options);

// Milliseconds of one core for one sample; infinite where no key sets serve, or pack results that
// are to be. Errors: others of make_plan.
double plan_cost(const Circuit& circuit, const PlanOptions& options);

}  // namespace torusml
