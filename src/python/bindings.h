// The parts of the extension; each file binds one room.
#pragma once

#include <nanobind/nanobind.h>

namespace torusml::python {

namespace nb = nanobind;

void bind_errors(nb::module_& module);
void bind_quantizer(nb::module_& module);
void bind_importer(nb::module_& module);
void bind_quantized_module(nb::module_& module);
void bind_compiled_model(nb::module_& module);
void bind_estimate(nb::module_& module);
void bind_client(nb::module_& module);
void bind_remote(nb::module_& module);

}  // namespace torusml::python
