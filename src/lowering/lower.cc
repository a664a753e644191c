#include "lowering/lower.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <deque>
#include <map>
#include <optional>

#include "circuit/step.h"
#include "lowering/channels.h"
#include "lowering/ranges.h"
#include "lowering/tables.h"
#include "quantization/calibration.h"
#include "quantization/layer_quantization.h"
#include "quantization/network.h"
#include "torusml/error.h"

namespace torusml {
namespace {

constexpr int kMaxTableBits = 16;
// Channels are shifted where that takes at least this part off the interval: shifts give each
// channel a table of its own.
constexpr double kWorthAShift = 1.0 / 16;

Shape sample_shape(const Shape& shape) { return {shape.begin() + 1, shape.end()}; }

// A value of the circuit with its integers on the calibration data.
struct Integers {
  ValueId value = 0;
  std::vector<double> data;  // sample after sample
  ElementRanges guaranteed;
};

// Where elementwise walks end: an input, or the accumulators of a layer.
struct Root {
  std::string name;  // of the input or layer
  Integers integers;
  ElementRanges calibrated;
  Interval declared;
  Shape shape;  // of the integers, with a batch axis of 1
  const QuantizedLayer* layer = nullptr;
  const UniformQuantizer* input = nullptr;
  // By channel: circuit integer = factor * layer's integer + offset; empty: they are the same.
  std::vector<std::int64_t> factor, offset;
  int removed_bits = 0;  // of the layer's integers, before its tables
};

// A request for integers: a quantizer applied to a tensor.
struct Read {
  std::string tensor;
  UniformQuantizer quantizer;
};

class Lowering {
 public:
  Lowering(const QuantizedGraph& quantized, const std::vector<Tensor<double>>& calibration,
           const LoweringOptions& options)
      : quantized_(quantized),
        calibration_(calibration),
        options_(options),
        root_names_(quantized.roots()) {
    model_.circuit.name = quantized.graph.name;
  }

  LoweredModel run() {
    plan();
    for (std::size_t i = 0; i < quantized_.inputs.size(); ++i) lower_input(i);
    for (const QuantizedLayer& layer : quantized_.layers) lower_layer(layer);
    for (const QuantizedOutput& output : quantized_.outputs) lower_output(output);
    return std::move(model_);
  }

 private:
  const FloatGraph& graph() const { return quantized_.graph; }
  Circuit& circuit() { return model_.circuit; }
  std::int64_t samples() const { return calibration_[0].shape[0]; }

  // What hangs on each root, before any is built: its tables become one node.
  void plan() {
    for (const QuantizedLayer& layer : quantized_.layers) {
      for (const QuantizedOperand& operand : layer.operands)
        plan_read(operand.tensor, operand.quantizer);
    }
    for (const QuantizedOutput& output : quantized_.outputs) {
      if (output.is_table())
        plan_read(output.name, output.quantizer);
      else
        raw_outputs_[tail_of(output.name).root].push_back(&output);
    }
  }

  void plan_read(const std::string& tensor, const UniformQuantizer& quantizer) {
    std::vector<Read>& reads = reads_[tail_of(tensor).root];
    const auto same = [&](const Read& read) {
      return read.tensor == tensor && read.quantizer == quantizer;
    };
    if (std::ranges::none_of(reads, same)) reads.push_back({tensor, quantizer});
  }

  ElementwiseTail tail_of(const std::string& tensor) const {
    return elementwise_tail(graph(), tensor, root_names_);
  }

  const Integers& integers_of(const std::string& tensor, const UniformQuantizer& quantizer) const {
    const std::string root = tail_of(tensor).root;
    const std::vector<Read>& reads = reads_.at(root);
    const auto read = std::ranges::find_if(
        reads, [&](const Read& r) { return r.tensor == tensor && r.quantizer == quantizer; });
    return *results_.at(root)[static_cast<std::size_t>(read - reads.begin())];
  }

  ValueId add_value(Shape shape, Interval interval) {
    circuit().values.push_back({std::move(shape), interval});
    return static_cast<ValueId>(circuit().values.size() - 1);
  }

  void lower_input(std::size_t index) {
    const GraphInput& input = graph().inputs[index];
    const UniformQuantizer& quantizer = quantized_.inputs[index].quantizer;
    const Interval interval = input.rows != 0 ? Interval{0, input.rows - 1}
                                              : Interval{quantizer.lowest(), quantizer.highest()};
    Root root;
    root.name = input.name;
    root.shape = input.shape;
    root.input = &quantizer;
    root.integers.value = add_value(sample_shape(input.shape), interval);
    const std::vector<std::int64_t> q = quantizer.quantize(calibration_[index].data);
    root.integers.data.assign(q.begin(), q.end());
    root.integers.guaranteed = uniform_ranges(number_of_elements(input.shape), interval);
    root.declared = interval;
    circuit().nodes.push_back({input.name, Input{root.integers.value}});
    model_.inputs.push_back({input.name, sample_shape(input.shape), quantizer, interval});
    measure(root);
    std::vector<std::optional<Table>> tables = build_tables(input.name, root);
    finish_root(input.name, std::move(root), std::move(tables));
  }

  void lower_layer(const QuantizedLayer& layer) {
    const std::int64_t elements = number_of_elements(layer.shape);
    Linear linear;
    Root root;
    root.name = layer.name;
    root.shape = layer.shape;
    root.layer = &layer;
    root.integers.data.assign(static_cast<std::size_t>(samples() * elements), 0.0);
    root.integers.guaranteed = uniform_ranges(elements, {0, 0});
    for (const QuantizedOperand& operand : layer.operands) {
      const Integers& x = integers_of(operand.tensor, operand.quantizer);
      add_product(operand.weight, x.data, samples(), root.integers.data);
      add_ranges(operand.weight, x.guaranteed, root.integers.guaranteed, layer.name);
      linear.terms.push_back({x.value, operand.weight});
    }
    linear.bias = layer.integer_bias;
    add_bias(linear.bias, root.integers);
    measure(root);
    const bool is_bounded = keeps_bounds(root);
    if (is_bounded) clip_ranges(*layer.bounds, root.integers.guaranteed);
    // An output that nothing else hangs on takes its bias and its shape right
    // here.
    Shape shape = sample_shape(layer.shape);
    if (const QuantizedOutput* output = sole_output(layer)) {
      const std::vector<std::int64_t> bias = bias_of(*output);
      linear.bias = sum(linear.bias, bias);
      shape = sample_shape(graph().shapes.at(output->name));
      add_bias(bias, root.integers);
      measure(root);
    }
    const Interval guaranteed = root.integers.guaranteed.hull();
    root.declared = is_bounded ? guaranteed : declared_interval(root.calibrated.hull(), guaranteed);
    std::vector<std::optional<Table>> tables;
    if (reads_.contains(layer.output)) {
      root.removed_bits = removed_bits(root);
      if (!raw_outputs_.contains(layer.output) && !layer.bounds)
        encode_channels(linear, root, tables);
      if (tables.empty()) tables = build_tables(layer.output, root);
    }
    declare(layer.name, std::move(linear), std::move(shape), root);
    finish_root(layer.output, std::move(root), std::move(tables));
  }

  // Rounding leads beyond bounds, since it may make a difference larger than it is.
  static bool keeps_bounds(const Root& root) {
    const std::optional<Interval>& bounds = root.layer->bounds;
    return bounds && hull(*bounds, root.calibrated.hull()) == *bounds;
  }

  int removed_bits(const Root& root) {
    if (root.layer->is_exact) return 0;
    const auto given = options_.removed_bits.find(root.layer->output);
    int bits = 0;
    if (given != options_.removed_bits.end())
      bits = given->second;
    else if (options_.rounding_bits != 0)
      bits = std::max(0, bit_width(root.calibrated.hull()) - options_.rounding_bits);
    if (bits != 0) model_.removed_bits[root.layer->output] = bits;
    return bits;
  }

  void measure(Root& root) const {
    root.calibrated = measured_ranges(root.integers.data, number_of_elements(root.shape));
  }

  Interval declared_interval(Interval calibrated, Interval guaranteed) const {
    return torusml::declared_interval(calibrated, guaranteed, options_.margin,
                                      options_.prefer_guaranteed_same_bits);
  }

  // Shifts the channels of a layer's accumulators, or shifts and scales them, where that serves its
  // tables, which it then leaves.
  void encode_channels(Linear& linear, Root& root, std::vector<std::optional<Table>>& tables) {
    if (options_.centre_channels) centre_channels(linear, root, tables);
    if (!options_.scale_channels) return;
    if (tables.empty()) tables = build_tables(root.layer->output, root);
    scale_channels(linear, root, tables);
  }

  void centre_channels(Linear& linear, Root& root, std::vector<std::optional<Table>>& tables) {
    const Channels channels(root.shape);
    const std::vector<Interval> guaranteed = channel_hulls(root.integers.guaranteed, channels);
    Centring best = centre(own_intervals(root, channels));
    if (options_.prefer_guaranteed_same_bits) {
      Centring safe = centre(guaranteed);
      if (size_bits(safe.common) == size_bits(best.common)) best = std::move(safe);
    }
    const auto before = static_cast<double>(root.declared.size());
    if (static_cast<double>(best.common.size()) > before * (1 - kWorthAShift)) return;
    Root shifted = root;
    shifted.declared = best.common;
    shifted.factor.assign(best.offset.size(), 1);
    shifted.offset = best.offset;
    const std::vector<std::int64_t> bias = by_element(best.offset, channels, root);
    add_bias(bias, shifted.integers);
    measure(shifted);
    std::vector<std::optional<Table>> shifted_tables = build_tables(root.layer->output, shifted);
    if (!is_narrower(shifted_tables, shifted, root)) return;
    root = std::move(shifted);
    tables = std::move(shifted_tables);
    linear.bias = sum(linear.bias, bias);
  }

  // Tables that are steps need no more room than reaches to either side of their steps (circuit/
  // step.h), which may be less where channels are not shifted.
  bool is_narrower(const std::vector<std::optional<Table>>& shifted_tables, const Root& shifted,
                   const Root& root) {
    const std::uint64_t reach = reach_of(shifted_tables, shifted);
    if (reach == shifted.declared.size()) return true;
    if (size_bits(root.declared) > kMaxTableBits) return true;
    return reach < reach_of(build_tables(root.layer->output, root), root);
  }

  static std::uint64_t reach_of(const std::vector<std::optional<Table>>& tables, const Root& root) {
    Lut lut;
    for (const std::optional<Table>& table : tables) {
      if (table) lut.tables.push_back(*table);
    }
    return std::min(root.declared.size(), step_reach(lut).value_or(root.declared.size()));
  }

  // By channel: the interval that its own calibration, with margin, and its own weights give.
  std::vector<Interval> own_intervals(const Root& root, const Channels& channels) const {
    std::vector<Interval> own = channel_hulls(root.calibrated, channels);
    const std::vector<Interval> guaranteed = channel_hulls(root.integers.guaranteed, channels);
    for (std::size_t c = 0; c < own.size(); ++c)
      own[c] = torusml::declared_interval(own[c], guaranteed[c], options_.margin, false);
    return own;
  }

  static std::vector<std::int64_t> by_element(const std::vector<std::int64_t>& by_channel,
                                              const Channels& channels, const Root& root) {
    std::vector<std::int64_t> values;
    for (std::int64_t e = 0; e < number_of_elements(root.shape); ++e)
      values.push_back(by_channel[channels.of(e)]);
    return values;
  }

  // Layers of one operand only, one that is fresh from a lookup or the client: there the length of
  // a row is the noise that it hands on. Affine tables are left alone: they need no lookup.
  void scale_channels(Linear& linear, Root& root, std::vector<std::optional<Table>>& tables) {
    if (linear.terms.size() != 1 || !is_source(linear.terms[0].operand)) return;
    if (std::ranges::any_of(tables, is_affine)) return;
    const Channels channels(root.shape);
    const bool is_guaranteed = root.declared == root.integers.guaranteed.hull();
    const std::vector<Interval> own = is_guaranteed
                                          ? channel_hulls(root.integers.guaranteed, channels)
                                          : own_intervals(root, channels);
    const std::vector<std::int64_t> factors =
        channel_factors(own, root.declared, linear.terms[0].weight, channels);
    if (std::ranges::all_of(factors, [](std::int64_t f) { return f == 1; })) return;
    std::vector<std::int64_t> offsets;
    for (std::size_t c = 0; c < factors.size(); ++c)
      offsets.push_back(factors[c] == 1 ? 0 : centring_offset(own[c], factors[c], root.declared));
    const std::vector<std::int64_t> factor = by_element(factors, channels, root);
    const std::vector<std::int64_t> offset = by_element(offsets, channels, root);
    scale_rows(linear.terms[0].weight, factors, channels);
    linear.bias.resize(factor.size(), 0);
    for (std::size_t e = 0; e < factor.size(); ++e)
      linear.bias[e] = factor[e] * linear.bias[e] + offset[e];
    multiply(factor, root.integers);
    add_bias(offset, root.integers);
    measure(root);
    root.factor = factors;
    root.offset.resize(factors.size(), 0);
    for (std::size_t c = 0; c < factors.size(); ++c)
      root.offset[c] = factors[c] * root.offset[c] + offsets[c];
    for (std::optional<Table>& table : tables)
      table = rescaled(*table, factors, offsets, channels, number_of_elements(root.shape));
  }

  // An input or a table's result, of equal noise in every element.
  bool is_source(ValueId value) {
    return std::ranges::none_of(circuit().nodes, [&](const Node& node) {
      const auto* linear = std::get_if<Linear>(&node.op);
      return linear != nullptr && linear->result == value;
    });
  }

  static bool is_affine(const std::optional<Table>& table) {
    return !table || is_affine_table(*table);
  }

  static void multiply(const std::vector<std::int64_t>& factor, Integers& integers) {
    for (std::size_t i = 0; i < integers.data.size(); ++i)
      integers.data[i] *= static_cast<double>(factor[i % factor.size()]);
    for (std::size_t e = 0; e < factor.size(); ++e) {
      integers.guaranteed.lower[e] *= static_cast<double>(factor[e]);
      integers.guaranteed.upper[e] *= static_cast<double>(factor[e]);
    }
  }

  const QuantizedOutput* sole_output(const QuantizedLayer& layer) const {
    const auto outputs = raw_outputs_.find(layer.output);
    if (reads_.contains(layer.output) || outputs == raw_outputs_.end()) return nullptr;
    return outputs->second.size() == 1 ? outputs->second[0] : nullptr;
  }

  static std::vector<std::int64_t> sum(const std::vector<std::int64_t>& a,
                                       std::vector<std::int64_t> b) {
    if (b.empty()) return a;
    for (std::size_t i = 0; i < a.size(); ++i) b[i] += a[i];
    return b;
  }

  // What rounding leaves of the bias, as zero points by element.
  static std::vector<double> fractions_of(const QuantizedOutput& output) {
    std::vector<double> zero_point;
    for (std::size_t e = 0; e < output.slope.size(); ++e) {
      const double steps = output.offset[e] / output.slope[e];
      const double fraction = std::ldexp(std::nearbyint(steps) - steps, kFractionBits);
      zero_point.push_back(std::ldexp(std::nearbyint(fraction), -kFractionBits) + 0.0);  // no -0
    }
    return zero_point;
  }

  // In steps of the accumulators' scale, rounded half to even; empty if all are
  // 0.
  static std::vector<std::int64_t> bias_of(const QuantizedOutput& output) {
    std::vector<std::int64_t> bias;
    for (std::size_t e = 0; e < output.slope.size(); ++e) {
      const double steps = std::nearbyint(output.offset[e] / output.slope[e]);
      if (!(std::abs(steps) <= 0x1p52)) {
        throw Error(ErrorCode::accumulator_too_wide,
                    fmt::format("the bias of element {} is {:.3g} steps of its scale", e, steps),
                    fmt::format("output '{}'", output.name), "more bits for weights");
      }
      bias.push_back(static_cast<std::int64_t>(steps));
    }
    if (std::ranges::all_of(bias, [](std::int64_t b) { return b == 0; })) bias.clear();
    return bias;
  }

  static void add_bias(const std::vector<std::int64_t>& bias, Integers& integers) {
    if (bias.empty()) return;
    for (std::size_t first = 0; first < integers.data.size(); first += bias.size()) {
      for (std::size_t e = 0; e < bias.size(); ++e)
        integers.data[first + e] += static_cast<double>(bias[e]);
    }
    for (std::size_t e = 0; e < bias.size(); ++e) {
      integers.guaranteed.lower[e] += static_cast<double>(bias[e]);
      integers.guaranteed.upper[e] += static_cast<double>(bias[e]);
    }
  }

  // Adds a linear node with the root's interval.
  void declare(const std::string& name, Linear linear, Shape shape, Root& root) {
    root.integers.value = linear.result = add_value(std::move(shape), root.declared);
    circuit().nodes.push_back({name, std::move(linear)});
    model_.ranges.push_back({name, root.calibrated.hull(), root.integers.guaranteed.hull(),
                             root.declared, reads_by_table(root)});
    if (root.offset.empty()) return;
    const Channels channels(root.shape);
    model_.ranges.back().factor = by_element(root.factor, channels, root);
    model_.ranges.back().offset = by_element(root.offset, channels, root);
  }

  bool reads_by_table(const Root& root) const {
    return root.layer != nullptr && reads_.contains(root.layer->output);
  }

  void check_width(const Root& root) {
    const Interval interval = root.declared;
    if (size_bits(interval) <= kMaxTableBits) return;
    const Interval calibrated = root.calibrated.hull();
    throw Error(ErrorCode::accumulator_too_wide,
                fmt::format("integers in [{}, {}] need {} bits at a table "
                            "lookup, at most {} are "
                            "possible (calibration reaches [{}, {}])",
                            interval.lower, interval.upper, size_bits(interval), kMaxTableBits,
                            calibrated.lower, calibrated.upper),
                fmt::format("{} '{}'", root.layer != nullptr ? "layer" : "input", root.name),
                "fewer bits for weights and activations (n_bits), or pruning: "
                "fewer non-zero "
                "weights a neuron");
  }

  // Adds the tables of a root as one node.
  void finish_root(const std::string& tensor, Root root, std::vector<std::optional<Table>> tables) {
    Root& kept = roots_[tensor] = std::move(root);
    const auto reads = reads_.find(tensor);
    if (reads == reads_.end()) return;

    Lut lut;
    lut.operand = kept.integers.value;
    std::vector<const Integers*>& results = results_[tensor];
    for (std::size_t r = 0; r < tables.size(); ++r) {
      const Integers* result = &kept.integers;
      if (tables[r]) {
        const auto same = std::ranges::find_if(
            tables.begin(), tables.begin() + static_cast<std::ptrdiff_t>(r),
            [&](const std::optional<Table>& t) { return t && is_same(*t, *tables[r]); });
        const auto twin = static_cast<std::size_t>(same - tables.begin());
        result =
            twin < r ? results[twin] : &add_table(*tables[r], reads->second[r].tensor, kept, lut);
      }
      results.push_back(result);
    }
    if (lut.tables.empty()) return;
    std::string name = activation_name(reads->second[0].tensor, kept);
    if (kept.layer != nullptr && kept.layer->is_exact) model_.exact_nodes.insert(name);
    circuit().nodes.push_back({std::move(name), std::move(lut)});
  }

  static bool is_same(const Table& a, const Table& b) {
    return a.entries == b.entries && a.row_of_element == b.row_of_element;
  }

  const Integers& add_table(Table table, const std::string& tensor, const Root& root, Lut& lut) {
    Integers& result = looked_up_.emplace_back(look_up(table, root));
    const auto [low, high] = std::ranges::minmax(table.entries);
    result.value = add_value(circuit().values[root.integers.value].shape, {low, high});
    table.name = table_name(tensor, root);
    lut.results.push_back(result.value);
    lut.tables.push_back(std::move(table));
    return result;
  }

  // None where the root's integers are read as they are.
  std::vector<std::optional<Table>> build_tables(const std::string& tensor, const Root& root) {
    const auto found = reads_.find(tensor);
    if (found == reads_.end()) return {};
    const std::vector<Read>& reads = found->second;
    // An input that is read as it is needs no table, however wide it is.
    const auto reads_itself = [&](const Read& read) {
      return root.input != nullptr && read.quantizer == *root.input &&
             std::ranges::all_of(tail_of(read.tensor).nodes,
                                 [](const FloatNode* node) { return keeps_values(*node); });
    };
    std::vector<std::optional<Table>> tables(reads.size());
    if (std::ranges::all_of(reads, reads_itself)) return tables;
    check_width(root);
    const TableBuilder builder(
        graph(), root.declared, root.shape, root.calibrated,
        [&](const Tensor<double>& integers) { return to_float(tensor, root, integers); });
    for (std::size_t r = 0; r < reads.size(); ++r) {
      if (reads_itself(reads[r])) continue;
      Table table = builder.build(tail_of(reads[r].tensor), reads[r].quantizer);
      if (!is_identity(table)) tables[r] = std::move(table);
    }
    return tables;
  }

  FloatTensor to_float(const std::string& tensor, const Root& root,
                       const Tensor<double>& integers) const {
    if (root.layer != nullptr)
      return layer_output(*root.layer, layer_integers(root, integers), graph().shapes.at(tensor));
    FloatTensor result{ElementType::floating, integers};
    const UniformQuantizationParameters& p = root.input->parameters();
    for (double& v : result.values.data)
      v = p.scale[0] * (v - static_cast<double>(p.zero_point[0]));
    return result;
  }

  // Of the circuit's integers those that the layer's float function is applied to.
  static Tensor<double> layer_integers(const Root& root, Tensor<double> integers) {
    const Channels channels(root.shape);
    const std::int64_t elements = number_of_elements(root.shape);
    for (std::size_t i = 0; i < integers.data.size() && !root.offset.empty(); ++i) {
      const std::size_t c = channels.of(static_cast<std::int64_t>(i) % elements);
      integers.data[i] = (integers.data[i] - static_cast<double>(root.offset[c])) /
                         static_cast<double>(root.factor[c]);
    }
    const double step = std::ldexp(1, root.removed_bits);
    for (std::size_t i = 0; i < integers.data.size() && step > 1; ++i)
      integers.data[i] = std::floor(integers.data[i] / step + 0.5) * step;
    return integers;
  }

  static Integers look_up(const Table& table, const Root& root) {
    Integers result;
    const std::vector<double>& x = root.integers.data;
    const std::size_t elements = root.calibrated.lower.size();
    result.data.resize(x.size());
    for (std::size_t first = 0; first < x.size(); first += elements) {
      for (std::size_t e = 0; e < elements; ++e) {
        result.data[first + e] = static_cast<double>(
            table.at(static_cast<std::int64_t>(e), static_cast<std::int64_t>(x[first + e])));
      }
    }
    result.guaranteed = table_ranges(table, root.integers.guaranteed);
    return result;
  }

  // Lookups carry the name of the activation that they stand for.
  std::string activation_name(const std::string& tensor, const Root& root) const {
    static const std::set<std::string> kQuantizers{"Quant", "QuantizeLinear", "Clip",
                                                   "DequantizeLinear", "Trunc"};
    std::string name = root.name;
    for (const FloatNode* node : tail_of(tensor).nodes) {
      const bool encrypted = depends_on_input(graph(), node->outputs[0]);
      if (encrypted && !keeps_values(*node) && !kQuantizers.contains(node->op_type))
        name = node->name;
    }
    return name;
  }

  // Letters, digits, '_' and '.'; no name twice.
  std::string table_name(const std::string& tensor, const Root& root) {
    std::string name;
    for (char c : activation_name(tensor, root)) {
      const bool allowed = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                           (c >= '0' && c <= '9') || c == '.' || c == '_';
      if (allowed || !name.empty()) name += allowed ? c : '_';
    }
    if (name.empty()) name = "table";
    const int count = ++table_names_[name];
    return count == 1 ? name : table_name_with(name, count);
  }

  std::string table_name_with(const std::string& name, int count) {
    std::string numbered;
    do {
      numbered = fmt::format("{}.{}", name, count++);
    } while (table_names_.contains(numbered));
    table_names_[numbered] = 1;
    return numbered;
  }

  void lower_output(const QuantizedOutput& output) {
    const Shape shape = sample_shape(graph().shapes.at(output.name));
    LoweredOutput lowered{output.name, shape, {}, {}};
    ValueId value = 0;
    if (output.is_table()) {
      const UniformQuantizationParameters& p = output.quantizer.parameters();
      value = integers_of(output.name, output.quantizer).value;
      lowered.scale = p.scale;
      lowered.zero_point.assign(p.zero_point.begin(), p.zero_point.end());
    } else {
      lowered.scale = output.slope;
      lowered.zero_point = fractions_of(output);
      value = raw_output(output, shape, lowered.zero_point);
      for (std::vector<double>* values : {&lowered.scale, &lowered.zero_point})
        compress(*values, graph().shapes.at(output.name));
    }
    if (circuit().values[value].shape != shape) {
      const ValueId reshaped = add_value(shape, circuit().values[value].interval);
      circuit().nodes.push_back({output.name, Linear{{{value, ScaleWeight{1}}}, {}, reshaped}});
      value = reshaped;
    }
    circuit().nodes.push_back({output.name, Output{value}});
    model_.outputs.push_back(std::move(lowered));
  }

  ValueId raw_output(const QuantizedOutput& output, const Shape& shape,
                     std::vector<double>& zero_point) {
    const std::string name = tail_of(output.name).root;
    const Root& root = roots_.at(name);
    if (root.layer != nullptr && root.layer->is_exact) model_.exact_nodes.insert(output.name);
    if (root.layer != nullptr && sole_output(*root.layer) == &output) return root.integers.value;
    const std::vector<std::int64_t> bias = bias_of(output);
    if (bias.empty()) return root.integers.value;
    const bool is_uniform = std::ranges::all_of(bias, [&](std::int64_t b) { return b == bias[0]; });
    if (root.input != nullptr && is_uniform) {  // the client's own zero point
      for (double& zero : zero_point) zero -= static_cast<double>(bias[0]);
      return root.integers.value;
    }
    Linear linear{{{root.integers.value, ScaleWeight{1}}}, bias, 0};
    Root sum = root;
    sum.layer = nullptr;
    add_bias(bias, sum.integers);
    measure(sum);
    sum.declared = declared_interval(sum.calibrated.hull(), sum.integers.guaranteed.hull());
    declare(output.name, std::move(linear), shape, sum);
    return sum.integers.value;
  }

  const QuantizedGraph& quantized_;
  const std::vector<Tensor<double>>& calibration_;
  const LoweringOptions& options_;
  const std::set<std::string> root_names_;
  std::map<std::string, std::vector<Read>> reads_;  // by root
  std::map<std::string, std::vector<const QuantizedOutput*>> raw_outputs_;
  std::map<std::string, Root> roots_;
  std::deque<Integers> looked_up_;
  std::map<std::string, std::vector<const Integers*>> results_;  // by root, as reads_
  std::map<std::string, int> table_names_;
  LoweredModel model_;
};

}  // namespace

LoweredModel lower(const QuantizedGraph& quantized, const std::vector<Tensor<double>>& calibration,
                   const LoweringOptions& options) {
  if (!(options.margin >= 0) || !std::isfinite(options.margin)) {
    throw Error(ErrorCode::invalid_argument,
                fmt::format("margin is {}; it must not be negative", options.margin), "", "0.05");
  }
  check_calibration(quantized.graph, calibration);
  return Lowering(quantized, calibration, options).run();
}

}  // namespace torusml
