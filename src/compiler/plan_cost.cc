#include "compiler/plan_cost.h"

#include <limits>

namespace torusml {

bool is_too_demanding(const Error& error) {
  return error.code() == ErrorCode::no_parameters ||
         error.code() == ErrorCode::accumulator_too_wide;
}

bool cannot_pack(const Error& error, const PlanOptions& options) {
  return options.pack_outputs == PackOutputs::on && error.code() == ErrorCode::not_supported;
}

double plan_cost(const Circuit& circuit, const PlanOptions& options) {
  try {
    return make_plan(circuit, options).cost_ms_per_core;
  } catch (const Error& error) {
    if (!is_too_demanding(error) && !cannot_pack(error, options)) throw;
    return std::numeric_limits<double>::infinity();
  }
}

}  // namespace torusml
