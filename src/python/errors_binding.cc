// torusml::Error to the Python class of its code (torusml/errors.py).
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>

#include <exception>

#include "bindings.h"
#include "torusml/error.h"

namespace torusml::python {
namespace {

void translate(const std::exception_ptr& pointer, void*) {
  try {
    std::rethrow_exception(pointer);
  } catch (const Error& error) {
    const nb::object value = nb::module_::import_("torusml.errors")
                                 .attr("make_error")(static_cast<int>(error.code()),
                                                     error.message(), error.where(), error.hint());
    PyErr_SetObject(reinterpret_cast<PyObject*>(Py_TYPE(value.ptr())), value.ptr());
  }
}

}  // namespace

void bind_errors(nb::module_& module) {
  nb::register_exception_translator(translate);
  // {name: (number, "TML-E001 invalid-argument")}
  nb::dict codes;
#define TORUSML_ENTRY(name, number, slug) \
  codes[#name] = nb::make_tuple(number, error_code_name(ErrorCode::name));
  TORUSML_ERROR_CODES(TORUSML_ENTRY)
#undef TORUSML_ENTRY
  module.attr("error_codes") = codes;
}

}  // namespace torusml::python
