#include "compiler/changes.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <optional>
#include <utility>

#include "base/progress.h"
#include "compiler/precision_score.h"
#include "torusml/error.h"

namespace torusml {
namespace {

std::vector<std::size_t> spread_samples(std::size_t all, std::size_t most) {
  std::vector<std::size_t> samples;
  const std::size_t count = std::min(all, most);
  for (std::size_t i = 0; i < count; ++i) samples.push_back(i * all / count);
  return samples;
}

Criterion criterion_of(const std::vector<Tensor<double>>& outputs) {
  const bool is_classifier =
      outputs.size() == 1 && outputs[0].shape.size() >= 2 && outputs[0].shape.back() > 1;
  return is_classifier ? Criterion::argmax : Criterion::relative_error;
}

// A network and options that differ from the given ones in one thing.
struct Variant {
  std::string what;
  FloatGraph graph;
  CompileOptions options;
};

// The layer before the lookups that take the longest; empty where there is none.
std::string slowest_layer(const CompiledModel& model) {
  const std::map<std::size_t, double> costs = cost_by_lookup(model.circuit, model.plan);
  if (costs.empty()) return "";
  const auto slowest = std::ranges::max_element(
      costs, [](const auto& a, const auto& b) { return a.second < b.second; });
  const ValueId operand = std::get<Lut>(model.circuit.nodes[slowest->first].op).operand;
  for (const Node& node : model.circuit.nodes) {
    const auto* linear = std::get_if<Linear>(&node.op);
    if (linear != nullptr && linear->result == operand) return node.name;
  }
  return "";
}

// The constant that a node multiplies by, through quantizers; empty if there is none.
std::string weight_of(const FloatGraph& graph, const FloatNode& node) {
  for (const std::string& input : node.inputs) {
    if (input.empty() || depends_on_input(graph, input)) continue;
    std::string tensor = input;
    for (const FloatNode* maker = producer(graph, tensor); maker != nullptr;
         maker = producer(graph, tensor))
      tensor = maker->inputs[0];
    const auto constant = graph.constants.find(tensor);
    if (constant != graph.constants.end() && constant->second.values.shape.size() >= 2)
      return tensor;
  }
  return "";
}

void prune(Tensor<double>& weight, double share) {
  std::vector<double> sizes;
  for (const double w : weight.data)
    if (w != 0) sizes.push_back(std::abs(w));
  if (sizes.empty()) return;
  const auto cut = static_cast<std::size_t>(share * static_cast<double>(sizes.size()));
  std::ranges::nth_element(sizes, sizes.begin() + static_cast<std::ptrdiff_t>(cut));
  for (double& w : weight.data)
    if (std::abs(w) < sizes[cut]) w = 0;
}

std::optional<Variant> with_pruned_layer(const FloatGraph& graph, const CompileOptions& options,
                                         const CompiledModel& model) {
  const std::string layer = slowest_layer(model);
  const auto node = std::ranges::find(graph.nodes, layer, &FloatNode::name);
  if (node == graph.nodes.end()) return std::nullopt;
  const std::string weight = weight_of(graph, *node);
  if (weight.empty()) return std::nullopt;
  Variant variant{fmt::format("half of the weights of layer '{}' set to 0, the smallest", layer),
                  graph, options};
  prune(variant.graph.constants.at(weight).values, 0.5);
  return variant;
}

std::optional<Variant> with_fewer_bits(const FloatGraph& graph, const CompileOptions& options) {
  QuantizationBits bits = options.quantization.bits;
  const int least = std::min(bits.op_inputs, bits.op_weights);
  if (options.quantization.import_qat || least <= 2) return std::nullopt;
  --bits.op_inputs;
  --bits.op_weights;
  Variant variant{fmt::format("1 bit less for weights and activations ({})", least - 1), graph,
                  options};
  variant.options.quantization.bits = bits;
  for (auto& [layer, own] : variant.options.quantization.layers)
    own = {std::max(own.inputs - 1, 2), std::max(own.weights - 1, 2)};
  return variant;
}

bool is_average(const FloatNode& node) {
  return node.op_type == "AveragePool" || node.op_type == "GlobalAveragePool";
}

// act(x), pool(act(x)) to pool(x), act(pool(x)).
std::optional<Variant> with_earlier_pooling(const FloatGraph& graph,
                                            const CompileOptions& options) {
  for (std::size_t p = 0; p < graph.nodes.size(); ++p) {
    if (!is_average(graph.nodes[p])) continue;
    const std::string act_output = graph.nodes[p].inputs[0];
    const auto act = std::ranges::find_if(graph.nodes, [&](const FloatNode& node) {
      return node.outputs[0] == act_output && node.inputs.size() == 1 && is_univariate(graph, node);
    });
    const auto readers = std::ranges::count_if(graph.nodes, [&](const FloatNode& node) {
      return std::ranges::find(node.inputs, act_output) != node.inputs.end();
    });
    if (act == graph.nodes.end() || readers != 1) continue;
    const auto a = static_cast<std::size_t>(act - graph.nodes.begin());
    Variant variant{
        fmt::format("pooling '{}' before activation '{}'", graph.nodes[p].name, act->name), graph,
        options};
    FloatNode pool = graph.nodes[p], activation = graph.nodes[a];
    const std::string pooled = pool.outputs[0];
    pool.inputs[0] = activation.inputs[0];
    pool.outputs[0] = act_output;
    activation.inputs[0] = act_output;
    activation.outputs[0] = pooled;
    variant.graph.shapes[act_output] = graph.shapes.at(pooled);
    variant.graph.nodes.erase(variant.graph.nodes.begin() + static_cast<std::ptrdiff_t>(a));
    variant.graph.nodes[p - 1] = std::move(activation);
    variant.graph.nodes.insert(variant.graph.nodes.begin() + static_cast<std::ptrdiff_t>(p - 1),
                               std::move(pool));
    return variant;
  }
  return std::nullopt;
}

std::optional<Variant> with_looser_target(const FloatGraph& graph, const CompileOptions& options,
                                          const CompiledModel& model) {
  if (!model.precision || options.plan.profile == Profile::shared_results) return std::nullopt;
  Variant variant{"", graph, options};
  PrecisionTarget& target = variant.options.search.target;
  const double loss = 2 * model.precision->most_loss;
  if (loss >= 0.5) return std::nullopt;
  target.criterion = model.precision->criterion;
  target.least_agreement = 1 - loss;
  target.most_relative_error = target.max_loss = loss;
  variant.what = fmt::format("a target twice as loose ({} {:.4g})",
                             target.criterion == Criterion::argmax ? "agreement" : "loss",
                             target.criterion == Criterion::argmax ? 1 - loss : loss);
  return variant;
}

std::optional<Variant> with_tolerance(const FloatGraph& graph, const CompileOptions& options) {
  if (options.plan.precision != Precision::exact || options.plan.profile == Profile::shared_results)
    return std::nullopt;
  Variant variant{"precision \"auto\" in place of \"exact\"", graph, options};
  variant.options.plan.precision = Precision::automatic;
  return variant;
}

}  // namespace

Fidelity::Fidelity(const FloatGraph& graph, const std::vector<Tensor<double>>& calibration)
    : samples_(
          spread_samples(static_cast<std::size_t>(calibration.at(0).shape.at(0)), kMostSamples)),
      inputs_(take_samples(calibration, samples_)) {
  const std::map<std::string, FloatTensor> tensors = evaluate(graph, inputs_);
  for (const std::string& output : graph.outputs) expected_.push_back(tensors.at(output).values);
  criterion_ = criterion_of(expected_);
}

std::vector<Tensor<std::int64_t>> Fidelity::quantized(const CompiledModel& model) const {
  std::vector<Tensor<std::int64_t>> integers;
  for (std::size_t i = 0; i < inputs_.size(); ++i)
    integers.push_back(quantize_input(model.client.inputs[i], inputs_[i]));
  return integers;
}

double Fidelity::of_clear(const CompiledModel& model) const {
  return of(model, run_clear(model.circuit, quantized(model)));
}

double Fidelity::of_simulated(const CompiledModel& model, std::uint64_t seed) const {
  return of(model, run_simulated(model.circuit, model.plan, quantized(model), seed));
}

double Fidelity::of(const CompiledModel& model,
                    const std::vector<Tensor<std::int64_t>>& integers) const {
  std::vector<Tensor<double>> outputs;
  for (std::size_t o = 0; o < integers.size(); ++o)
    outputs.push_back(dequantize_output(model.client.outputs[o], integers[o]));
  PrecisionTarget target;
  target.criterion = criterion_;
  std::vector<std::size_t> all(samples_.size());
  for (std::size_t i = 0; i < all.size(); ++i) all[i] = i;
  return 1 - PrecisionScore(target, expected_).loss(outputs, all);
}

std::vector<Change> cheapest_changes(const FloatGraph& graph,
                                     const std::vector<Tensor<double>>& calibration,
                                     const CompileOptions& options, const CompiledModel& model,
                                     const Fidelity& fidelity, std::size_t most,
                                     const ProgressCallback& progress) {
  std::vector<Variant> variants;
  const auto add = [&](std::optional<Variant> variant) {
    if (variant) variants.push_back(*std::move(variant));
  };
  add(with_fewer_bits(graph, options));
  add(with_pruned_layer(graph, options, model));
  add(with_earlier_pooling(graph, options));
  add(with_looser_target(graph, options, model));
  add(with_tolerance(graph, options));

  std::vector<Change> changes;
  ProgressCounter counter(progress, variants.size());
  for (Variant& variant : variants) {
    variant.options.hooks = {};
    variant.options.search.progress = {};
    try {
      const CompiledModel changed =
          compile_model(std::move(variant.graph), calibration, variant.options);
      if (changed.plan.cost_ms_per_core < 0.99 * model.plan.cost_ms_per_core) {
        changes.push_back({variant.what, changed.plan.cost_ms_per_core, changed.plan.lookup_count,
                           fidelity.of_simulated(changed, options.search.seed)});
      }
    } catch (const Error& error) {
      if (error.code() == ErrorCode::internal) throw;
    }
    counter.advance();
  }
  std::ranges::sort(changes, {}, &Change::cost_ms_per_core);
  if (changes.size() > most) changes.resize(most);
  return changes;
}

}  // namespace torusml
