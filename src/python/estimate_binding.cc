// Estimates of compiled modules.
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "arrays.h"
#include "benchmark/machine.h"
#include "bindings.h"
#include "estimate/estimate.h"
#include "long_call.h"
#include "precision.h"

namespace torusml::python {
namespace {

nb::list describe(const Circuit& circuit, const RunTime& time) {
  nb::list layers;
  for (const auto& [node, layer] : time.layers) {
    nb::dict entry;
    entry["name"] = circuit.nodes[node].name;
    entry["values"] = layer.values;
    entry["seconds"] = layer.seconds;
    layers.append(entry);
  }
  return layers;
}

nb::dict describe(const CompiledModel& model, const Estimate& e, int cores) {
  nb::dict result;
  result["cpu"] = describe_machine().cpu;
  result["threads"] = e.one.threads;
  result["seconds_one_sample"] = e.one.seconds();
  result["batch"] = e.batch_size;
  result["seconds_batch"] = e.seconds_of_batch();
  if (cores > 0) {
    result["cores"] = cores;
    result["seconds_one_sample_on_cores"] = seconds_on_cores(e.one, cores);
  }
  result["input_bytes"] = e.input_bytes;
  result["output_bytes"] = e.output_bytes;
  result["output_bytes_batch"] = e.output_bytes_batch;
  result["memory_bytes_one_sample"] = e.memory_bytes_one;
  result["memory_bytes_batch"] = e.memory_bytes_batch;
  result["fidelity"] = to_string(e.criterion);
  result["fidelity_samples"] = e.samples;
  result["fidelity_clear"] = e.clear;
  result["fidelity_simulated"] = e.simulated;
  result["layers"] = describe(model.circuit, e.one);
  nb::list changes;
  for (const Change& change : e.changes) {
    nb::dict entry;
    entry["what"] = change.what;
    entry["seconds_one_sample"] = e.seconds_after(change);
    entry["lookups"] = change.lookups;
    entry["fidelity_simulated"] = change.fidelity;
    changes.append(entry);
  }
  result["changes"] = changes;
  return result;
}

}  // namespace

void bind_estimate(nb::module_& module) {
  module.def(
      "estimate",
      [](const QuantizedModule& quantized, const CompiledModel& model,
         const std::vector<Array<double>>& values, const PlanOptions& options, double agreement,
         double relative_error, const nb::object& metric, double max_loss, int max_trials,
         std::uint64_t seed, int batch, int threads, int cores, std::size_t most_changes,
         const nb::object& progress) {
        const auto calibration = to_tensors(values);
        CompileOptions compilation;
        compilation.quantization = quantized.request();
        compilation.margin = quantized.margin();
        compilation.plan = options;
        for (const InputSpec& input : model.client.inputs) {
          if (input.is_clear) compilation.clear_inputs.push_back(input.name);
        }
        compilation.search = to_search(options.precision, agreement, relative_error, metric,
                                       max_loss, max_trials, seed);
        const Estimate estimate = long_call(progress, [&](const ProgressCallback& report) {
          return estimate_model(quantized.float_graph(), calibration, compilation, model,
                                {batch, threads, most_changes}, report);
        });
        return describe(model, estimate, cores);
      },
      nb::arg("module"), nb::arg("model"), nb::arg("inputs"), nb::arg("options"),
      nb::arg("agreement"), nb::arg("relative_error"), nb::arg("metric").none(),
      nb::arg("max_loss"), nb::arg("max_trials"), nb::arg("seed"), nb::arg("batch"),
      nb::arg("threads"), nb::arg("cores"), nb::arg("most_changes"), nb::arg("progress").none());
}

}  // namespace torusml::python
