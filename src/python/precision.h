// What a Python caller asks of precision "auto".
#pragma once

#include <nanobind/nanobind.h>

#include <cstdint>

#include "compiler/precision_search.h"

namespace torusml::python {

namespace nb = nanobind;

// metric: None, or metric(outputs, indices); it must outlive the search.
PrecisionSearch to_search(Precision precision, double agreement, double relative_error,
                          const nb::object& metric, double max_loss, int max_trials,
                          std::uint64_t seed);

}  // namespace torusml::python
