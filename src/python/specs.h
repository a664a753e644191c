// What models tell about their inputs, outputs and layers, as dictionaries.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <vector>

#include "plan/client_spec.h"
#include "plan/compiled_model.h"

namespace torusml::python {

namespace nb = nanobind;

nb::tuple to_python(Interval interval);
nb::dict to_python(const InputSpec& input);
nb::dict to_python(const OutputSpec& output);
nb::dict to_python(const RangeReport& range);

template <class Spec>
nb::list to_python(const std::vector<Spec>& specs) {
  nb::list list;
  for (const Spec& spec : specs) {
    list.append(to_python(spec));
  }
  return list;
}

}  // namespace torusml::python
