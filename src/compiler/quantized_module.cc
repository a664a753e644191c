#include "compiler/quantized_module.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "circuit/idle_lookups.h"
#include "circuit/passes.h"
#include "circuit/separate_scales.h"
#include "compiler/bits_search.h"
#include "compiler/plan_cost.h"
#include "quantization/quantize.h"
#include "torusml/error.h"

namespace torusml {
namespace {

RangeReport report(const NodeRange& range, Interval declared) {
  return {range.name, range.calibrated,    range.guaranteed,
          declared,   bit_width(declared), range.feeds_table};
}

void check_count(std::size_t given, std::size_t expected, const char* what) {
  if (given == expected) return;
  throw Error(ErrorCode::wrong_shape,
              fmt::format("{} {} were given, the model has {}", given, what, expected));
}

}  // namespace

QuantizedModule QuantizedModule::build(FloatGraph graph,
                                       const std::vector<Tensor<double>>& calibration,
                                       const QuantizationRequest& request, double margin,
                                       const std::optional<Rounding>& rounding,
                                       const ProgressCallback& progress) {
  if (!(margin >= 0 && margin <= 10)) {
    throw Error(ErrorCode::invalid_argument,
                fmt::format("margin is {}; it must lie between 0 and 10", margin));
  }
  QuantizedModule module;
  module.margin_ = margin;
  module.request_ = request;
  module.rounding_ = rounding;
  module.quantized_ = quantize(std::move(graph), calibration, request, progress);
  module.lower_for(calibration, Precision::exact, {});
  return module;
}

void QuantizedModule::lower_for(const std::vector<Tensor<double>>& inputs, Precision precision,
                                const CompileHooks& hooks) {
  const bool is_first = circuit_.nodes.empty();
  const bool may_be_tolerant =
      precision == Precision::tolerant || precision == Precision::automatic;
  LoweringOptions options{.margin = margin_,
                          .prefer_guaranteed_same_bits = !may_be_tolerant,
                          .scale_channels = may_be_tolerant,
                          .rounding_bits = rounding_ && is_first ? rounding_->bits : 0,
                          .removed_bits = removed_bits_};
  LoweredModel lowered = lower(quantized_, inputs, options);
  removed_bits_ = std::move(lowered.removed_bits);
  exact_nodes_ = std::move(lowered.exact_nodes);
  torusml::declare_clear(lowered.circuit, clear_inputs_);
  if (hooks.after_pass) hooks.after_pass("lowering", lowered.circuit);
  circuit_ = run_passes(lowered.circuit, [&](const Pass& pass, const Circuit& after) {
    if (hooks.after_pass) hooks.after_pass(pass.name, after);
  });
  verify(circuit_);

  client_ = {};
  client_.model_name = circuit_.name;
  for (const LoweredInput& input : lowered.inputs) {
    client_.inputs.push_back({input.name, input.shape, input.quantizer, input.interval});
  }
  const std::vector<const Node*> outputs = output_nodes(circuit_);
  for (std::size_t o = 0; o < outputs.size(); ++o) {
    const LoweredOutput& output = lowered.outputs[o];
    const Interval interval = circuit_.values[std::get<Output>(outputs[o]->op).operand].interval;
    client_.outputs.push_back(
        {output.name, output.shape, output.scale, output.zero_point, interval});
  }
  ranges_.clear();
  encoded_.clear();
  for (const NodeRange& range : lowered.ranges) {
    ranges_.push_back(report(range, range.declared));
    if (!range.offset.empty()) encoded_[range.name] = range;
  }
}

void QuantizedModule::declare_clear(const std::vector<std::string>& inputs) {
  torusml::declare_clear(circuit_, inputs);
  clear_inputs_ = inputs;
}

std::vector<std::int64_t> QuantizedModule::layer_integers(const std::string& node,
                                                          std::vector<std::int64_t> values) const {
  const auto found = encoded_.find(node);
  if (found == encoded_.end()) return values;
  const NodeRange& range = found->second;
  for (std::size_t i = 0; i < values.size(); ++i) {
    const std::size_t e = i % range.offset.size();
    values[i] = (values[i] - range.offset[e]) / range.factor[e];
  }
  return values;
}

std::vector<Tensor<std::int64_t>> QuantizedModule::quantize_inputs(
    const std::vector<Tensor<double>>& values) const {
  check_count(values.size(), client_.inputs.size(), "inputs");
  std::vector<Tensor<std::int64_t>> integers;
  for (std::size_t i = 0; i < values.size(); ++i)
    integers.push_back(quantize_input(client_.inputs[i], values[i]));
  return integers;
}

std::vector<Tensor<double>> QuantizedModule::dequantize_outputs(
    const std::vector<Tensor<std::int64_t>>& integers) const {
  check_count(integers.size(), client_.outputs.size(), "outputs");
  std::vector<Tensor<double>> values;
  for (std::size_t o = 0; o < integers.size(); ++o)
    values.push_back(dequantize_output(client_.outputs[o], integers[o]));
  return values;
}

std::vector<Tensor<std::int64_t>> QuantizedModule::run_clear(
    const std::vector<Tensor<std::int64_t>>& inputs) const {
  return torusml::run_clear(circuit_, inputs);
}

namespace {

// The circuit, or the one whose lookups give a result for each torus scale, if a plan of that is
// cheaper. An automatic precision is represented by the tolerant one.
Circuit cheaper_scales(const Circuit& circuit, PlanOptions options) {
  Circuit separate = separate_scales(circuit);
  if (separate.values.size() == circuit.values.size()) return circuit;
  if (options.precision == Precision::automatic) options.precision = Precision::tolerant;
  return plan_cost(separate, options) < plan_cost(circuit, options) ? separate : circuit;
}

}  // namespace

void QuantizedModule::lower_for_plan(const std::vector<Tensor<double>>& inputs, Precision precision,
                                     const PlanOptions& options, const CompileHooks& hooks) {
  lower_for(inputs, precision, hooks);
  planned_ = remove_idle_lookups(circuit_);
  if (hooks.after_pass) hooks.after_pass(kIdlePass, planned_);
  planned_ = cheaper_scales(planned_, with_exact_nodes(options));
  if (hooks.after_pass) hooks.after_pass(kScalesPass, planned_);
}

PlanOptions QuantizedModule::with_exact_nodes(PlanOptions options) const {
  if (options.precision != Precision::tolerant && options.precision != Precision::automatic)
    return options;
  for (const Node& node : planned_.nodes) {
    const bool is_read =
        std::holds_alternative<Lut>(node.op) || std::holds_alternative<Output>(node.op);
    if (is_read && exact_nodes_.contains(node.name))
      options.layers.try_emplace(node.name, LayerPrecision{});
  }
  return options;
}

// Leaves the circuit lowered as the choice needs it.
PlanOptions QuantizedModule::choose(const std::vector<Tensor<double>>& inputs,
                                    const PlanOptions& options, const PrecisionSearch& search,
                                    const CompileHooks& hooks,
                                    std::optional<PrecisionReport>& report) {
  lower_for_plan(inputs, options.precision, options, hooks);
  const PlanOptions fixed = with_exact_nodes(options);
  if (options.precision != Precision::automatic) return fixed;
  PrecisionFound found =
      search_precision(planned_, client_, quantize_inputs(inputs), fixed, search);
  report = found.report;
  if (!found.is_exact) return std::move(found.options);
  lower_for_plan(inputs, Precision::exact, found.options, hooks);
  return std::move(found.options);
}

void QuantizedModule::check_indices() const {
  for (const GraphInput& input : float_graph().inputs) {
    const bool is_clear = std::ranges::find(clear_inputs_, input.name) != clear_inputs_.end();
    if (input.rows == 0 || is_clear) continue;
    throw Error(ErrorCode::not_supported, "an embedding lookup, whose index would be encrypted",
                fmt::format("input '{}'", input.name),
                "the index in the clear, or cutting the model behind the lookup: the client looks "
                "its indices up in the table and encrypts the rows, the model's input instead");
  }
}

CompiledModel QuantizedModule::compile(const std::vector<Tensor<double>>& inputs,
                                       const PlanOptions& wanted, const PrecisionSearch& search,
                                       const CompileHooks& hooks) {
  check_indices();
  const PlanOptions options = with_rounding(wanted, rounding_);
  CompiledModel model;
  const PlanOptions chosen = choose(inputs, options, search, hooks, model.precision);
  model.plan = make_plan(planned_, chosen);
  model.circuit = planned_;
  model.ranges = ranges_;
  client_.key_sets = parameters_of(model.plan.key_sets);
  client_.options = model.plan.options;
  const std::vector<const Node*> ins = input_nodes(planned_), outs = output_nodes(planned_);
  for (std::size_t i = 0; i < ins.size(); ++i) {
    const Input& input = std::get<Input>(ins[i]->op);
    const TensorPlan& tensor = model.plan.tensors[input.result];
    client_.inputs[i].is_clear = input.is_clear;
    client_.inputs[i].torus_scale = tensor.scale;
    client_.inputs[i].center = tensor.center;
  }
  for (std::size_t o = 0; o < outs.size(); ++o) {
    const TensorPlan& tensor = model.plan.tensors[std::get<Output>(outs[o]->op).operand];
    client_.outputs[o].torus_scale = tensor.scale;
    client_.outputs[o].center = tensor.center;
  }
  model.client = client_;
  return model;
}

BitsReport choose_bits(const FloatGraph& graph, const std::vector<Tensor<double>>& calibration,
                       CompileOptions& options, const ProgressCallback& progress) {
  BitsFound found = search_bits(graph, calibration,
                                {.request = options.quantization,
                                 .plan = options.plan,
                                 .target = options.search.target,
                                 .margin = options.margin,
                                 .rounding = options.rounding,
                                 .clear_inputs = options.clear_inputs,
                                 .max_trials = options.search.max_trials,
                                 .seed = options.search.seed,
                                 .progress = progress});
  options.quantization = std::move(found.request);
  options.choose_bits = false;
  return std::move(found.report);
}

CompiledModel compile_model(FloatGraph graph, const std::vector<Tensor<double>>& calibration,
                            const CompileOptions& wanted) {
  with_rounding(wanted.plan, wanted.rounding);  // refuses before work begins
  CompileOptions options = wanted;
  if (options.choose_bits) choose_bits(graph, calibration, options, options.progress);
  QuantizedModule module =
      QuantizedModule::build(std::move(graph), calibration, options.quantization, options.margin,
                             options.rounding, options.progress);
  module.declare_clear(options.clear_inputs);
  return module.compile(calibration, options.plan, options.search, options.hooks);
}

}  // namespace torusml
