#include "bindings.h"

NB_MODULE(_core, module) {
  module.doc() = "The C++ core of TorusML. Use the package torusml; names here may change.";
  torusml::python::bind_errors(module);
  torusml::python::bind_quantizer(module);
  torusml::python::bind_importer(module);
  torusml::python::bind_compiled_model(module);
  torusml::python::bind_quantized_module(module);
  torusml::python::bind_estimate(module);
  torusml::python::bind_client(module);
  torusml::python::bind_remote(module);
}
