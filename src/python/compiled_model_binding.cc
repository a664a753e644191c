// Plans, and compiled models with their clear and simulated executors.
#include <nanobind/stl/map.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <cmath>

#include "arrays.h"
#include "base/threads.h"
#include "bindings.h"
#include "circuit/text.h"
#include "long_call.h"
#include "plan/compiled_model.h"
#include "plan/reader_facts.h"
#include "plan/wire_size.h"
#include "report/model_report.h"
#include "runtime/executors.h"
#include "runtime/memory.h"
#include "specs.h"

namespace torusml::python {
namespace {

using FloatArrays = std::vector<Array<double>>;
using IntegerArrays = std::vector<Array<std::int64_t>>;

nb::dict describe(const TfheParameters& p) {
  nb::dict result;
  result["small_dimension"] = p.small_dimension.value;
  result["glwe_dimension"] = p.glwe_dimension.value;
  result["polynomial_size"] = p.polynomial_size.value;
  result["bootstrap_base_log2"] = p.bootstrap.base_log2;
  result["bootstrap_level_count"] = p.bootstrap.level_count;
  result["keyswitch_base_log2"] = p.keyswitch.base_log2;
  result["keyswitch_level_count"] = p.keyswitch.level_count;
  result["circuit_bootstrap_base_log2"] = p.circuit_bootstrap.base_log2;
  result["circuit_bootstrap_level_count"] = p.circuit_bootstrap.level_count;
  result["trace_base_log2"] = p.trace.base_log2;
  result["trace_level_count"] = p.trace.level_count;
  result["grouping_factor"] = p.grouping_factor;
  result["accumulator_bits"] = p.accumulator_bits;
  result["small_variance"] = p.small_variance.value;
  result["glwe_variance"] = p.glwe_variance.value;
  return result;
}

nb::dict describe(const KeySet& set, std::int64_t lookups) {
  const KeyBytes bytes = key_bytes(set.parameters);
  nb::dict result;
  result["name"] = set.name;
  result["lookup_count"] = lookups;
  result["key_memory_bytes"] = bytes.memory;
  result["key_wire_bytes"] = bytes.wire;
  result["parameters"] = describe(set.parameters);
  return result;
}

nb::dict describe(const OneKeySet& one) {
  nb::dict result;
  result["name"] = one.name;
  result["cost_ms_per_core"] = one.cost_ms_per_core;
  result["key_memory_bytes"] = one.key_bytes.memory;
  result["key_wire_bytes"] = one.key_bytes.wire;
  return result;
}

std::int64_t tables_of(const Circuit& circuit, const Lut& lut) {
  return static_cast<std::int64_t>(lut.tables.size()) *
         number_of_elements(circuit.values[lut.operand].shape);
}

nb::dict describe(const LookupPlan& lookup) {
  nb::dict result;
  result["step_probability"] = lookup.step_probability;
  result["far_probability"] = lookup.far_probability;
  result["flip_probability"] = lookup.flip_probability;
  result["wrap_probability"] = lookup.wrap_probability;
  return result;
}

// By layer: `describe` of each lookup's node. Layers of one name are told apart by the node.
template <class Describe>
nb::dict by_layer(const Circuit& circuit, const Plan& plan, const Describe& describe_node) {
  nb::dict layers;
  for (const auto& [node, lookup] : plan.lookups) {
    std::string name = circuit.nodes[node].name;
    if (layers.contains(name.c_str())) name += "#" + std::to_string(node);
    layers[name.c_str()] = describe_node(node, lookup);
  }
  return layers;
}

nb::dict describe_lookups(const Circuit& circuit, const Plan& plan) {
  return by_layer(circuit, plan, [&](std::size_t node, const LookupPlan& lookup) {
    nb::dict result = describe(lookup);
    result["lookup_count"] = tables_of(circuit, std::get<Lut>(circuit.nodes[node].op));
    return result;
  });
}

nb::dict describe(const FlipCounts& flips, const Circuit& circuit, const Plan& plan) {
  return by_layer(circuit, plan, [&](std::size_t node, const LookupPlan&) {
    const LookupCounts& counts = flips.at(node);
    nb::dict result;
    result["events"] = counts.events;
    result["flips"] = counts.flips;
    result["far"] = counts.far;
    result["wraps"] = counts.wraps;
    return result;
  });
}

nb::dict describe(const Circuit& circuit, const Plan& plan) {
  const BootstrapCount count = count_bootstraps(circuit, plan);
  nb::dict result;
  result["precision"] = to_string(plan.options.precision);
  result["profile"] = to_string(plan.options.profile);
  result["p_error"] = plan.options.p_error;
  result["global_p_error"] = plan.options.global_p_error;
  result["tolerance"] = plan.options.tolerance;
  result["security_level"] = plan.options.security_bits;
  result["sample_p_error"] = plan.sample_p_error;
  result["lookup_count"] = plan.lookup_count;
  result["rotation_count"] = count.rotations;
  result["keyswitch_count"] = count.keyswitches;
  result["cost_ms_per_core"] = plan.cost_ms_per_core;
  const KeyBytes bytes = key_bytes(plan.key_sets);
  result["key_set"] = names_of(plan.key_sets);
  result["key_memory_bytes"] = bytes.memory;
  result["key_wire_bytes"] = bytes.wire;
  const std::vector<std::int64_t> lookups = lookups_by_key_set(plan, circuit);
  nb::list key_sets;
  for (std::size_t s = 0; s < plan.key_sets.size(); ++s)
    key_sets.append(describe(plan.key_sets[s], lookups[s]));
  result["key_sets"] = key_sets;
  result["lookups"] = describe_lookups(circuit, plan);
  result["one_key_set"] = plan.one_key_set ? nb::object(describe(*plan.one_key_set)) : nb::none();
  return result;
}

nb::list describe_layers(const CompiledModel& model) {
  nb::list layers;
  for (const ReaderFacts& reader : describe_readers(model)) {
    nb::dict layer;
    layer["name"] = reader.name;
    layer["kind"] = reader.is_lookup ? "lookup" : "output";
    layer["range"] = to_python(reader.interval);
    layer["bits"] = reader.bits;
    layer["policy"] = to_string(reader.policy);
    layer["tolerance"] = reader.tolerance;
    layer["sigma"] = reader.sigma;
    layer["effective_bits"] = reader.effective_bits;
    layer["flip_probability"] = reader.flip;
    layer["wrap_probability"] = reader.wrap;
    if (reader.is_lookup) {
      layer["key_set"] = reader.key_set;
      layer["lookup_count"] = reader.tables;
      layer["step_probability"] = reader.step;
      layer["far_probability"] = reader.far;
      layer["cost_ms_per_core"] = reader.ms;
      if (reader.measured_flip) layer["flip_rate"] = *reader.measured_flip;
    }
    layers.append(layer);
  }
  return layers;
}

nb::object describe(const std::optional<PrecisionReport>& report) {
  if (!report) return nb::none();
  nb::dict result;
  result["criterion"] = to_string(report->criterion);
  result["most_loss"] = report->most_loss;
  result["loss"] = report->loss;
  result["samples"] = report->samples;
  result["draws"] = report->draws;
  result["trials"] = report->trials;
  result["exact_ms_per_core"] = report->exact_ms_per_core;
  nb::list looser;
  for (const auto& [loss, ms_per_core] : report->looser) {
    nb::dict choice;
    choice["loss"] = loss;
    choice["ms_per_core"] = ms_per_core;
    looser.append(choice);
  }
  result["looser"] = looser;
  return result;
}

nb::dict describe(const MemoryEstimate& memory) {
  nb::dict result;
  result["total"] = memory.total();
  result["keys"] = memory.keys;
  result["ciphertexts"] = memory.ciphertexts;
  result["tables"] = memory.tables;
  result["scratch"] = memory.scratch;
  result["layer"] = memory.layer;
  return result;
}

// With as many samples at a time as a run takes that has no limit.
MemoryEstimate estimate_unlimited(const CompiledModel& model, std::size_t batch, int threads) {
  const std::size_t at_once =
      choose_samples_at_once(model.circuit, model.plan, batch, {.threads = threads});
  return estimate_memory(model.circuit, model.plan, {batch, at_once, threads_used(threads)});
}

// By lookup and output, in the circuit's order: its name, whether it is a lookup, and the noise as
// a fraction of its interval.
nb::list reader_noise(const Circuit& circuit, const Plan& plan) {
  nb::list list;
  for (std::size_t n = 0; n < circuit.nodes.size(); ++n) {
    const bool is_lookup = plan.lookups.contains(n);
    if (!is_lookup && !plan.outputs.contains(n)) continue;
    list.append(nb::make_tuple(circuit.nodes[n].name, is_lookup, relative_sigma(circuit, plan, n)));
  }
  return list;
}

nb::tuple integer_range(const Circuit& circuit) {
  Interval range = circuit.values.at(0).interval;
  for (const TensorType& type : circuit.values) {
    range = hull(range, type.interval);
  }
  return to_python(range);
}

}  // namespace

void bind_compiled_model(nb::module_& module) {
  nb::class_<PlanOptions>(module, "PlanOptions")
      .def(
          "__init__",
          [](PlanOptions* self, const std::string& precision, const std::string& profile,
             double p_error, double global_p_error, double tolerance, int security_level,
             const std::string& parameters, int max_key_sets, const std::string& pack_outputs,
             const std::map<std::string, std::pair<std::string, double>>& layers) {
            std::map<std::string, LayerPrecision> precisions;
            for (const auto& [name, layer] : layers)
              precisions[name] = {parse_precision(layer.first), layer.second};
            new (self) PlanOptions{.precision = parse_precision(precision),
                                   .profile = parse_profile(profile),
                                   .p_error = p_error,
                                   .global_p_error = global_p_error,
                                   .tolerance = tolerance,
                                   .layers = std::move(precisions),
                                   .security_bits = security_level,
                                   .key_set_source = parse_key_set_source(parameters),
                                   .max_key_sets = max_key_sets,
                                   .pack_outputs = parse_pack_outputs(pack_outputs)};
          },
          nb::arg("precision"), nb::arg("profile"), nb::arg("p_error"), nb::arg("global_p_error"),
          nb::arg("tolerance"), nb::arg("security_level"), nb::arg("parameters"),
          nb::arg("max_key_sets"), nb::arg("pack_outputs"), nb::arg("layers"));
  module.attr("default_tolerance") = PlanOptions{}.tolerance;
  module.def("tolerance_at", &tolerance_at);

  nb::class_<CompiledModel>(module, "CompiledModel")
      .def_prop_ro("name", [](const CompiledModel& self) { return self.circuit.name; })
      .def_prop_ro("constant_outputs",
                   [](const CompiledModel& self) { return constant_outputs(self.circuit); })
      .def_prop_ro("plan",
                   [](const CompiledModel& self) { return describe(self.circuit, self.plan); })
      .def_prop_ro("layers", [](const CompiledModel& self) { return describe_layers(self); })
      .def_prop_ro("precision_report",
                   [](const CompiledModel& self) { return describe(self.precision); })
      .def_prop_ro("inputs",
                   [](const CompiledModel& self) { return to_python(self.client.inputs); })
      .def_prop_ro(
          "input_bytes",
          [](const CompiledModel& self) { return wire_size(self.circuit, self.plan).inputs; })
      .def_prop_ro(
          "output_bytes",
          [](const CompiledModel& self) { return wire_size(self.circuit, self.plan).outputs; })
      .def_prop_ro("outputs",
                   [](const CompiledModel& self) { return to_python(self.client.outputs); })
      .def_prop_ro("ranges", [](const CompiledModel& self) { return to_python(self.ranges); })
      .def_prop_ro("maximum_bit_width",
                   [](const CompiledModel& self) { return maximum_bit_width(self.circuit); })
      .def_prop_ro("integer_range",
                   [](const CompiledModel& self) { return integer_range(self.circuit); })
      .def_prop_ro("linear_multiplications",
                   [](const CompiledModel& self) { return linear_multiplications(self.circuit); })
      .def("memory_estimate",
           [](const CompiledModel& self, std::size_t batch, int threads) {
             return describe(estimate_unlimited(self, batch, threads));
           })
      .def("circuit_text",
           [](const CompiledModel& self, bool constants) {
             return print(self.circuit, {.constants = constants});
           })
      .def("plan_text", [](const CompiledModel& self) { return print(self.plan, self.circuit); })
      .def("write_html_report",
           [](const CompiledModel& self, const std::string& path) {
             const nb::gil_scoped_release release;
             return write_html_report(self, path);
           })
      .def_prop_ro("reader_noise",
                   [](const CompiledModel& self) { return reader_noise(self.circuit, self.plan); })
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
          nb::arg("inputs"), nb::arg("seed"), nb::arg("progress").none())
      .def(
          "flip_counts",
          [](const CompiledModel& self, const IntegerArrays& integers, std::uint64_t seed,
             const nb::object& progress) {
            const auto inputs = to_tensors(integers);
            FlipCounts flips;
            long_call(progress, [&](const ProgressCallback& report) {
              return run_simulated(self.circuit, self.plan, inputs, seed, report, &flips);
            });
            return describe(flips, self.circuit, self.plan);
          },
          nb::arg("inputs"), nb::arg("seed"), nb::arg("progress").none());
}

}  // namespace torusml::python
