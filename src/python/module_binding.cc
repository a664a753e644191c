// The compiler: quantized modules, plans, and compiled models with their clear and simulated
// executors.
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <map>

#include "arrays.h"
#include "bindings.h"
#include "circuit/text.h"
#include "compiler/quantized_module.h"
#include "long_call.h"
#include "runtime/executors.h"
#include "torusml/error.h"

namespace torusml::python {
namespace {

nb::tuple to_python(Interval interval) { return nb::make_tuple(interval.lower, interval.upper); }

nb::dict to_python(const InputSpec& input) {
  nb::dict result;
  result["name"] = input.name;
  result["shape"] = input.shape;
  result["quantizer"] = input.quantizer;
  result["interval"] = to_python(input.interval);
  return result;
}

nb::dict to_python(const OutputSpec& output) {
  nb::dict result;
  result["name"] = output.name;
  result["shape"] = output.shape;
  result["scale"] = output.scale;
  result["zero_point"] = output.zero_point;
  result["interval"] = to_python(output.interval);
  result["bits"] = bit_width(output.interval);
  return result;
}

template <class Spec>
nb::list to_python(const std::vector<Spec>& specs) {
  nb::list list;
  for (const Spec& spec : specs) {
    list.append(to_python(spec));
  }
  return list;
}

nb::dict to_python(const RangeReport& range) {
  nb::dict result;
  result["name"] = range.name;
  result["range"] = to_python(range.declared);
  result["calibrated"] = to_python(range.calibrated);
  result["guaranteed"] = to_python(range.guaranteed);
  result["bitwidth"] = range.bits;
  result["feeds_table"] = range.feeds_table;
  return result;
}

nb::dict to_python(const TfheParameters& p) {
  nb::dict result;
  result["small_dimension"] = p.small_dimension.value;
  result["glwe_dimension"] = p.glwe_dimension.value;
  result["polynomial_size"] = p.polynomial_size.value;
  result["bootstrap_base_log2"] = p.bootstrap.base_log2;
  result["bootstrap_level_count"] = p.bootstrap.level_count;
  result["keyswitch_base_log2"] = p.keyswitch.base_log2;
  result["keyswitch_level_count"] = p.keyswitch.level_count;
  result["small_variance"] = p.small_variance.value;
  result["glwe_variance"] = p.glwe_variance.value;
  return result;
}

nb::dict to_python(const Plan& plan) {
  nb::dict result;
  result["precision"] = to_string(plan.options.precision);
  result["profile"] = to_string(plan.options.profile);
  result["p_error"] = plan.options.p_error;
  result["global_p_error"] = plan.options.global_p_error;
  result["tolerance"] = plan.options.tolerance;
  result["security_level"] = plan.options.security_bits;
  result["sample_p_error"] = plan.sample_p_error;
  result["lookup_count"] = plan.lookup_count;
  result["cost_ms_per_core"] = plan.cost_ms_per_core;
  result["parameters"] = to_python(plan.parameters);
  return result;
}

std::int64_t linear_multiplications(const Circuit& circuit) {
  std::int64_t count = 0;
  for (const Node& node : circuit.nodes) {
    const auto* linear = std::get_if<Linear>(&node.op);
    if (linear == nullptr) {
      continue;
    }
    for (const LinearTerm& term : linear->terms) {
      if (const auto* dense = std::get_if<DenseWeight>(&term.weight)) {
        count += dense->rows * dense->columns *
                 (number_of_elements(circuit.values[term.operand].shape) / dense->columns);
      } else if (const auto* sparse = std::get_if<SparseWeight>(&term.weight)) {
        count += static_cast<std::int64_t>(sparse->value.size());
      }
    }
  }
  return count;
}

std::string name_of_value(const Node& node, ValueId value) {
  const auto* lut = std::get_if<Lut>(&node.op);
  return lut != nullptr && lut->results.size() > 1 ? node.name + "#" + std::to_string(value)
                                                   : node.name;
}

// {layer: integers (batch, shape...)} of every value that linear maps and tables compute.
nb::dict run_clear_layers(const Circuit& circuit, const std::vector<Tensor<std::int64_t>>& inputs) {
  std::map<ValueId, std::vector<std::int64_t>> seen;
  run_clear(circuit, inputs, [&](ValueId value, const std::vector<std::int64_t>& integers) {
    std::vector<std::int64_t>& all = seen[value];
    all.insert(all.end(), integers.begin(), integers.end());
  });
  nb::dict layers;
  const auto add = [&](const Node& node, ValueId value) {
    Shape shape = circuit.values[value].shape;
    shape.insert(shape.begin(),
                 static_cast<std::int64_t>(seen[value].size()) / number_of_elements(shape));
    std::string name = name_of_value(node, value);
    if (layers.contains(name.c_str())) {
      name += "#" + std::to_string(value);
    }
    layers[name.c_str()] = to_numpy(shape, std::move(seen[value]));
  };
  for (const Node& node : circuit.nodes) {
    if (const auto* linear = std::get_if<Linear>(&node.op)) {
      add(node, linear->result);
    } else if (const auto* lut = std::get_if<Lut>(&node.op)) {
      for (const ValueId value : lut->results) {
        add(node, value);
      }
    }
  }
  return layers;
}

nb::tuple integer_range(const Circuit& circuit) {
  Interval range = circuit.values.at(0).interval;
  for (const TensorType& type : circuit.values) {
    range = hull(range, type.interval);
  }
  return to_python(range);
}

CompileHooks to_hooks(const nb::object& after_pass) {
  if (after_pass.is_none()) {
    return {};
  }
  return {.after_pass = [&after_pass](std::string_view pass, const Circuit& circuit) {
    const nb::gil_scoped_acquire lock;
    after_pass(nb::str(pass.data(), pass.size()), print(circuit, {.constants = false}));
  }};
}

using FloatArrays = std::vector<Array<double>>;
using IntegerArrays = std::vector<Array<std::int64_t>>;

void bind_quantized_module(nb::module_& module) {
  nb::class_<QuantizedModule>(module, "QuantizedModule")
      .def_static(
          "build",
          [](const FloatGraph& graph, const FloatArrays& calibration, const std::vector<int>& bits,
             bool import_qat, double margin) {
            const auto inputs = to_tensors(calibration);
            const QuantizationRequest request{{bits.at(0), bits.at(1), bits.at(2), bits.at(3)},
                                              import_qat};
            const nb::gil_scoped_release release;
            return QuantizedModule::build(graph, inputs, request, margin);
          },
          nb::arg("graph"), nb::arg("calibration"), nb::arg("bits"), nb::arg("import_qat"),
          nb::arg("margin"))
      .def_prop_ro("inputs", [](const QuantizedModule& self) { return to_python(self.inputs()); })
      .def_prop_ro("outputs", [](const QuantizedModule& self) { return to_python(self.outputs()); })
      .def_prop_ro("ranges", [](const QuantizedModule& self) { return to_python(self.ranges()); })
      .def("circuit_text",
           [](const QuantizedModule& self, bool constants) {
             return print(self.circuit(), {.constants = constants});
           })
      .def("quantize_input",
           [](const QuantizedModule& self, std::size_t index, const Array<double>& values) {
             return to_numpy(quantize_input(self.inputs().at(index), to_tensor(values)));
           })
      .def("dequantize_outputs",
           [](const QuantizedModule& self, const IntegerArrays& integers) {
             return to_numpy(self.dequantize_outputs(to_tensors(integers)));
           })
      .def("run_clear",
           [](const QuantizedModule& self, const IntegerArrays& integers) {
             const auto inputs = to_tensors(integers);
             auto outputs = [&] {
               const nb::gil_scoped_release release;
               return self.run_clear(inputs);
             }();
             return to_numpy(std::move(outputs));
           })
      .def("run_clear_layers",
           [](const QuantizedModule& self, const IntegerArrays& integers) {
             return run_clear_layers(self.circuit(), to_tensors(integers));
           })
      .def(
          "compile",
          [](QuantizedModule& self, const FloatArrays& values, const PlanOptions& options,
             const nb::object& after_pass) {
            const auto inputs = to_tensors(values);
            const CompileHooks hooks = to_hooks(after_pass);
            const nb::gil_scoped_release release;
            return self.compile(inputs, options, hooks);
          },
          nb::arg("inputs"), nb::arg("options"), nb::arg("after_pass").none());
}

void bind_compiled_model(nb::module_& module) {
  nb::class_<PlanOptions>(module, "PlanOptions")
      .def(
          "__init__",
          [](PlanOptions* self, const std::string& precision, const std::string& profile,
             double p_error, double global_p_error, double tolerance, int security_level) {
            new (self) PlanOptions{.precision = parse_precision(precision),
                                   .profile = parse_profile(profile),
                                   .p_error = p_error,
                                   .global_p_error = global_p_error,
                                   .tolerance = tolerance,
                                   .security_bits = security_level};
          },
          nb::arg("precision"), nb::arg("profile"), nb::arg("p_error"), nb::arg("global_p_error"),
          nb::arg("tolerance"), nb::arg("security_level"));
  module.attr("default_tolerance") = PlanOptions{}.tolerance;

  nb::class_<CompiledModel>(module, "CompiledModel")
      .def_prop_ro("name", [](const CompiledModel& self) { return self.circuit.name; })
      .def_prop_ro("client", [](const CompiledModel& self) { return self.client; })
      .def_prop_ro("plan", [](const CompiledModel& self) { return to_python(self.plan); })
      .def_prop_ro("inputs",
                   [](const CompiledModel& self) { return to_python(self.client.inputs); })
      .def_prop_ro("outputs",
                   [](const CompiledModel& self) { return to_python(self.client.outputs); })
      .def_prop_ro("ranges", [](const CompiledModel& self) { return to_python(self.ranges); })
      .def_prop_ro("maximum_bit_width",
                   [](const CompiledModel& self) { return maximum_bit_width(self.circuit); })
      .def_prop_ro("integer_range",
                   [](const CompiledModel& self) { return integer_range(self.circuit); })
      .def_prop_ro("linear_multiplications",
                   [](const CompiledModel& self) { return linear_multiplications(self.circuit); })
      .def("circuit_text",
           [](const CompiledModel& self, bool constants) {
             return print(self.circuit, {.constants = constants});
           })
      .def("plan_text", [](const CompiledModel& self) { return print(self.plan, self.circuit); })
      .def("quantize_inputs",
           [](const CompiledModel& self, const FloatArrays& values) {
             nb::list integers;
             for (std::size_t i = 0; i < values.size(); ++i) {
               integers.append(
                   to_numpy(quantize_input(self.client.inputs.at(i), to_tensor(values[i]))));
             }
             return integers;
           })
      .def("dequantize_outputs",
           [](const CompiledModel& self, const IntegerArrays& integers) {
             nb::list values;
             for (std::size_t o = 0; o < integers.size(); ++o) {
               values.append(
                   to_numpy(dequantize_output(self.client.outputs.at(o), to_tensor(integers[o]))));
             }
             return values;
           })
      .def("run_clear",
           [](const CompiledModel& self, const IntegerArrays& integers) {
             const auto inputs = to_tensors(integers);
             auto outputs = [&] {
               const nb::gil_scoped_release release;
               return run_clear(self.circuit, inputs);
             }();
             return to_numpy(std::move(outputs));
           })
      .def(
          "run_simulated",
          [](const CompiledModel& self, const IntegerArrays& integers, std::uint64_t seed,
             const nb::object& progress) {
            const auto inputs = to_tensors(integers);
            return to_numpy(long_call(progress, [&](const ProgressCallback& report) {
              return run_simulated(self.circuit, self.plan, inputs, seed, report);
            }));
          },
          nb::arg("inputs"), nb::arg("seed"), nb::arg("progress").none());
}

}  // namespace

void bind_module(nb::module_& module) {
  bind_quantized_module(module);
  bind_compiled_model(module);
}

}  // namespace torusml::python
