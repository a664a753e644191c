// Quantized modules: the compiler's door.
#include <nanobind/stl/map.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <map>

#include "arrays.h"
#include "bindings.h"
#include "circuit/text.h"
#include "compiler/bits_search.h"
#include "compiler/quantized_module.h"
#include "long_call.h"
#include "precision.h"
#include "runtime/executors.h"
#include "specs.h"

namespace torusml::python {
namespace {

using FloatArrays = std::vector<Array<double>>;
using IntegerArrays = std::vector<Array<std::int64_t>>;

std::string name_of_value(const Node& node, ValueId value) {
  const auto* lut = std::get_if<Lut>(&node.op);
  return lut != nullptr && lut->results.size() > 1 ? node.name + "#" + std::to_string(value)
                                                   : node.name;
}

// {layer: its own integers (batch, shape...)} of every value that linear maps and tables compute.
nb::dict run_clear_layers(const QuantizedModule& module,
                          const std::vector<Tensor<std::int64_t>>& inputs) {
  const Circuit& circuit = module.circuit();
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
      if (!layers.contains(node.name.c_str()))
        seen[linear->result] = module.layer_integers(node.name, std::move(seen[linear->result]));
      add(node, linear->result);
    } else if (const auto* lut = std::get_if<Lut>(&node.op)) {
      for (const ValueId value : lut->results) {
        add(node, value);
      }
    }
  }
  return layers;
}

// (inputs, weights) by layer output.
using LayerBitsMap = std::map<std::string, std::pair<int, int>>;

CompileHooks to_hooks(const nb::object& after_pass) {
  if (after_pass.is_none()) {
    return {};
  }
  return {.after_pass = [&after_pass](std::string_view pass, const Circuit& circuit) {
    const nb::gil_scoped_acquire lock;
    after_pass(nb::str(pass.data(), pass.size()), print(circuit, {.constants = false}));
  }};
}

}  // namespace

// What a search for bits found: the arguments of QuantizedModule.build, and a report.
static nb::dict describe(const BitsFound& found) {
  const QuantizationBits& bits = found.request.bits;
  LayerBitsMap layers;
  for (const auto& [layer, own] : found.request.layers) layers[layer] = {own.inputs, own.weights};
  nb::dict by_name;
  for (const BitsReport::Layer& layer : found.report.layers)
    by_name[nb::str(layer.name.c_str())] = nb::make_tuple(layer.bits.inputs, layer.bits.weights);
  nb::dict report;
  report["criterion"] = to_string(found.report.criterion);
  report["most_loss"] = found.report.most_loss;
  report["loss"] = found.report.loss;
  report["samples"] = found.report.samples;
  report["trials"] = found.report.trials;
  report["layers"] = by_name;
  nb::dict result;
  result["bits"] =
      std::vector<int>{bits.op_inputs, bits.op_weights, bits.model_inputs, bits.model_outputs};
  result["layers"] = layers;
  result["report"] = report;
  return result;
}

// A metric of lists of arrays, and of the samples' indices; called on any thread.
static Metric to_metric(const nb::object& metric) {
  if (metric.is_none()) return {};
  return [&metric](const std::vector<Tensor<double>>& outputs,
                   const std::vector<std::size_t>& samples) {
    const nb::gil_scoped_acquire lock;
    nb::list arrays, indices;
    for (const Tensor<double>& output : outputs) arrays.append(to_numpy(Tensor<double>(output)));
    for (const std::size_t sample : samples) indices.append(sample);
    return nb::cast<double>(metric(arrays, indices));
  };
}

PrecisionSearch to_search(Precision precision, double agreement, double relative_error,
                          const nb::object& metric, double max_loss, int max_trials,
                          std::uint64_t seed) {
  PrecisionSearch search;
  search.target = make_target(precision == Precision::automatic, agreement, relative_error,
                              to_metric(metric), max_loss);
  search.max_trials = max_trials;
  search.seed = seed;
  return search;
}

// Of the inputs that are marked, in the graph's order.
static std::vector<std::string> names_of(const FloatGraph& graph, const std::vector<bool>& marked) {
  std::vector<std::string> names;
  for (std::size_t i = 0; i < std::min(graph.inputs.size(), marked.size()); ++i) {
    if (marked[i]) names.push_back(graph.inputs[i].name);
  }
  return names;
}

void bind_quantized_module(nb::module_& module) {
  // precision, and what contradicts it, of a network that is rounded ("" or "6:exact").
  module.def("precision_with", [](const std::string& precision, const std::string& rounding) {
    return precision_with(precision, parse_rounding(rounding, "rounding_threshold_bits"));
  });
  module.def("check_rounding", [](const PlanOptions& options, const std::string& rounding) {
    with_rounding(options, parse_rounding(rounding, "rounding_threshold_bits"));
  });
  module.def(
      "search_bits",
      [](const FloatGraph& graph, const FloatArrays& calibration, bool import_qat, double margin,
         const std::string& rounding, const std::string& method, double percentile,
         int accumulator_bits, std::uint64_t seed, const PlanOptions& plan, double agreement,
         double relative_error, const nb::object& metric, double max_loss, int max_trials,
         std::uint64_t search_seed, const std::vector<bool>& clear, const nb::object& progress) {
        const auto inputs = to_tensors(calibration);
        BitsSearch search{
            .request = {{},
                        import_qat,
                        parse_quantization_method(method),
                        percentile,
                        accumulator_bits,
                        seed,
                        {}},
            .plan = plan,
            .target = make_target(true, agreement, relative_error, to_metric(metric), max_loss),
            .margin = margin,
            .rounding = parse_rounding(rounding, "rounding"),
            .clear_inputs = names_of(graph, clear),
            .max_trials = max_trials,
            .seed = search_seed,
            .progress = {}};
        return describe(long_call(progress, [&](const ProgressCallback& report) {
          search.progress = report;
          return search_bits(graph, inputs, search);
        }));
      },
      nb::arg("graph"), nb::arg("calibration"), nb::arg("import_qat"), nb::arg("margin"),
      nb::arg("rounding"), nb::arg("method"), nb::arg("percentile"), nb::arg("accumulator_bits"),
      nb::arg("quantization_seed"), nb::arg("plan"), nb::arg("agreement"),
      nb::arg("relative_error"), nb::arg("metric").none(), nb::arg("max_loss"),
      nb::arg("max_trials"), nb::arg("seed"), nb::arg("clear"), nb::arg("progress").none());
  nb::class_<QuantizedModule>(module, "QuantizedModule")
      .def_static(
          "build",
          [](const FloatGraph& graph, const FloatArrays& calibration, const std::vector<int>& bits,
             bool import_qat, double margin, const std::string& rounding, const std::string& method,
             double percentile, int accumulator_bits, std::uint64_t seed,
             const LayerBitsMap& layers, const nb::object& progress) {
            const auto inputs = to_tensors(calibration);
            QuantizationRequest request{{bits.at(0), bits.at(1), bits.at(2), bits.at(3)},
                                        import_qat,
                                        parse_quantization_method(method),
                                        percentile,
                                        accumulator_bits,
                                        seed,
                                        {}};
            for (const auto& [layer, own] : layers) request.layers[layer] = {own.first, own.second};
            return long_call(progress, [&](const ProgressCallback& report) {
              return QuantizedModule::build(graph, inputs, request, margin,
                                            parse_rounding(rounding, "rounding"), report);
            });
          },
          nb::arg("graph"), nb::arg("calibration"), nb::arg("bits"), nb::arg("import_qat"),
          nb::arg("margin"), nb::arg("rounding"), nb::arg("method"), nb::arg("percentile"),
          nb::arg("accumulator_bits"), nb::arg("seed"), nb::arg("layers"),
          nb::arg("progress").none())
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
             return run_clear_layers(self, to_tensors(integers));
           })
      .def(
          "compile",
          [](QuantizedModule& self, const FloatArrays& values, const PlanOptions& options,
             double agreement, double relative_error, const nb::object& metric, double max_loss,
             int max_trials, std::uint64_t seed, const std::vector<std::string>& clear_inputs,
             const nb::object& progress, const nb::object& after_pass) {
            const auto inputs = to_tensors(values);
            const CompileHooks hooks = to_hooks(after_pass);
            PrecisionSearch search = to_search(options.precision, agreement, relative_error, metric,
                                               max_loss, max_trials, seed);
            return long_call(progress, [&](const ProgressCallback& report) {
              search.progress = report;
              self.declare_clear(clear_inputs);
              return self.compile(inputs, options, search, hooks);
            });
          },
          nb::arg("inputs"), nb::arg("options"), nb::arg("agreement"), nb::arg("relative_error"),
          nb::arg("metric").none(), nb::arg("max_loss"), nb::arg("max_trials"), nb::arg("seed"),
          nb::arg("clear_inputs"), nb::arg("progress").none(), nb::arg("after_pass").none());
}

}  // namespace torusml::python
