#include "lowering/lower.h"

#include <fmt/format.h>

#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <map>

#include "importer/custom_operator.h"
#include "lowering/tables.h"
#include "torusml/error.h"

namespace torusml {
namespace {

using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using ConstMatrixMap = Eigen::Map<const Matrix>;

constexpr std::uint64_t kMaxTableValues = std::uint64_t{1} << 16;

Shape sample_shape(const Shape& shape) { return {shape.begin() + 1, shape.end()}; }

int bits_of(Interval interval) {
  return static_cast<int>(std::ceil(std::log2(static_cast<double>(interval.size()))));
}

Interval widened(Interval calibrated, Interval guaranteed, const LoweringOptions& options) {
  const double extra = options.margin * static_cast<double>(calibrated.upper - calibrated.lower);
  const auto grow = static_cast<std::int64_t>(std::ceil(extra));
  const Interval declared{std::max(calibrated.lower - grow, guaranteed.lower),
                          std::min(calibrated.upper + grow, guaranteed.upper)};
  const bool same_bits =
      options.prefer_guaranteed_same_bits && bits_of(guaranteed) == bits_of(declared);
  return same_bits ? guaranteed : declared;
}

// A tensor that elementwise walks end at: its circuit value, its integers on the calibration data,
// and the tables that read it.
struct Root {
  ValueId value = 0;
  Shape shape;                   // with a batch axis of 1
  std::vector<double> integers;  // on the calibration data, sample after sample
  const QuantizedLayer* layer = nullptr;
  const UniformQuantizer* input = nullptr;
  std::string name;

  FloatTensor to_float(const Tensor<double>& values) const {
    if (layer != nullptr) return layer_output(*layer, values);
    FloatTensor result{ElementType::floating, values};
    const UniformQuantizationParameters& p = input->parameters();
    for (double& v : result.values.data)
      v = p.scale[0] * (v - static_cast<double>(p.zero_point[0]));
    return result;
  }
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
        names_(quantized.roots()) {
    model_.circuit.name = quantized.graph.name;
  }

  LoweredModel run() {
    plan_reads();
    for (std::size_t i = 0; i < quantized_.inputs.size(); ++i) lower_input(i);
    for (const QuantizedLayer& layer : quantized_.layers) lower_layer(layer);
    for (const QuantizedOutput& output : quantized_.outputs) lower_output(output);
    return std::move(model_);
  }

 private:
  const FloatGraph& graph() const { return quantized_.graph; }
  Circuit& circuit() { return model_.circuit; }

  ElementwiseTail tail_of(const std::string& tensor) const {
    return elementwise_tail(graph(), tensor, names_);
  }

  // Which tables hang on each root, before any is built: they become one node.
  void plan_reads() {
    for (const QuantizedLayer& layer : quantized_.layers) {
      for (const QuantizedOperand& operand : layer.operands)
        plan_read(operand.tensor, operand.quantizer);
    }
    for (const QuantizedOutput& output : quantized_.outputs) {
      if (!output_slopes(output)) plan_read(output.tensor, output.quantizer);
    }
  }

  void plan_read(const std::string& tensor, const UniformQuantizer& quantizer) {
    const ElementwiseTail tail = tail_of(tensor);
    if (reads_input_as_it_is(tail, quantizer)) return;
    std::vector<Read>& reads = reads_[tail.root];
    const auto same = [&](const Read& read) {
      return read.tensor == tensor && read.quantizer == quantizer;
    };
    if (std::ranges::none_of(reads, same)) reads.push_back({tensor, quantizer});
  }

  bool reads_input_as_it_is(const ElementwiseTail& tail, const UniformQuantizer& quantizer) const {
    static const std::set<std::string> kTypes{"Reshape", "Flatten",   "Identity",
                                              "Squeeze", "Unsqueeze", "Dropout"};
    const auto input = std::ranges::find_if(
        quantized_.inputs, [&](const QuantizedInput& in) { return in.name == tail.root; });
    return input != quantized_.inputs.end() && input->quantizer == quantizer &&
           std::ranges::all_of(tail.nodes, [&](const FloatNode* node) {
             return !node->custom && kTypes.contains(node->op_type);
           });
  }

  ValueId add_value(Shape shape, Interval interval) {
    circuit().values.push_back({std::move(shape), interval});
    return static_cast<ValueId>(circuit().values.size() - 1);
  }

  void lower_input(std::size_t index) {
    const GraphInput& input = graph().inputs[index];
    const UniformQuantizer& quantizer = quantized_.inputs[index].quantizer;
    const Interval interval{quantizer.lowest(), quantizer.highest()};
    Root root;
    root.value = add_value(sample_shape(input.shape), interval);
    root.shape = input.shape;
    root.input = &quantizer;
    root.name = input.name;
    const std::vector<std::int64_t> q = quantizer.quantize(calibration_[index].data);
    root.integers.assign(q.begin(), q.end());
    circuit().nodes.push_back({input.name, Input{root.value}});
    model_.inputs.push_back({input.name, sample_shape(input.shape), quantizer, interval});
    finish_root(std::move(root));
  }

  void lower_layer(const QuantizedLayer& layer) {
    Linear linear;
    std::vector<const Root*> operands;
    std::vector<double> sums;
    RecordedLinear recorded;
    if (layer.custom) recorded = record(layer);
    Root root;
    root.shape = layer.custom ? recorded.shape : layer.shape;
    const auto elements = static_cast<std::size_t>(number_of_elements(root.shape));
    const auto samples = static_cast<std::size_t>(calibration_[0].shape[0]);
    sums.resize(samples * elements, 0);
    if (layer.custom)
      add_recorded(recorded, layer, linear, sums);
    else {
      for (const QuantizedOperand& operand : layer.operands) add_operand(operand, linear, sums);
    }
    root.layer = &layer;
    root.name = layer.name;
    root.integers = std::move(sums);
    linear.result = root.value = add_value(sample_shape(root.shape), {0, 0});
    circuit().nodes.push_back({layer.name, std::move(linear)});
    declare(root, layer);
    finish_root(std::move(root));
  }

  static RecordedLinear record(const QuantizedLayer& layer) {
    std::vector<InputQuantization> inputs;
    for (const QuantizedOperand& operand : layer.operands) {
      const UniformQuantizer& q = operand.quantizer;
      inputs.push_back({q.parameters().scale, q.parameters().zero_point, q.options().n_bits,
                        q.options().is_signed});
    }
    return layer.custom->record(inputs);
  }

  struct Integers {
    ValueId value = 0;
    const std::vector<double>* data = nullptr;
  };

  Integers integers_of(const QuantizedOperand& operand) const {
    const ElementwiseTail tail = tail_of(operand.tensor);
    if (reads_input_as_it_is(tail, operand.quantizer))
      return {roots_.at(tail.root).value, &roots_.at(tail.root).integers};
    const std::vector<Read>& reads = reads_.at(tail.root);
    const auto read = std::ranges::find_if(reads, [&](const Read& r) {
      return r.tensor == operand.tensor && r.quantizer == operand.quantizer;
    });
    const auto index = static_cast<std::size_t>(read - reads.begin());
    return {results_.at(tail.root)[index], &table_integers_.at(tail.root)[index]};
  }

  void add_operand(const QuantizedOperand& operand, Linear& linear,
                   std::vector<double>& sums) const {
    const Integers x = integers_of(operand);
    const IntegerWeight& w = operand.weight;
    if (w.rows == 0) {
      linear.terms.push_back({x.value, ScaleWeight{w.factor}});
      for (std::size_t i = 0; i < sums.size(); ++i)
        sums[i] += static_cast<double>(w.factor) * (*x.data)[i];
      return;
    }
    linear.terms.push_back({x.value, DenseWeight{w.rows, w.columns, w.data}});
    const std::vector<double> weights(w.data.begin(), w.data.end());
    const auto rows = static_cast<std::int64_t>(x.data->size()) / w.columns;
    Eigen::Map<Matrix>(sums.data(), rows, w.rows).noalias() +=
        ConstMatrixMap(x.data->data(), rows, w.columns) *
        ConstMatrixMap(weights.data(), w.rows, w.columns).transpose();
  }

  void add_recorded(const RecordedLinear& recorded, const QuantizedLayer& layer, Linear& linear,
                    std::vector<double>& sums) const {
    linear.bias = recorded.bias;
    const auto elements = static_cast<std::size_t>(number_of_elements(recorded.shape));
    for (std::size_t i = 0; i < sums.size() && !recorded.bias.empty(); ++i)
      sums[i] += static_cast<double>(recorded.bias[i % elements]);
    for (const RecordedLinear::Term& term : recorded.terms) {
      const Integers x = integers_of(layer.operands[static_cast<std::size_t>(term.input)]);
      SparseWeight sparse = to_sparse(term);
      for (std::size_t s = 0; s < sums.size() / elements; ++s) {
        for (std::size_t row = 0; row < elements; ++row) {
          for (auto e = static_cast<std::size_t>(sparse.row_start[row]);
               e < static_cast<std::size_t>(sparse.row_start[row + 1]); ++e) {
            sums[s * elements + row] += static_cast<double>(sparse.value[e]) *
                                        (*x.data)[s * static_cast<std::size_t>(term.columns) +
                                                  static_cast<std::size_t>(sparse.column[e])];
          }
        }
      }
      linear.terms.push_back({x.value, std::move(sparse)});
    }
  }

  static SparseWeight to_sparse(const RecordedLinear::Term& term) {
    std::map<std::pair<std::int64_t, std::int64_t>, std::int64_t> entries;
    for (std::size_t e = 0; e < term.value.size(); ++e)
      entries[{term.row[e], term.column[e]}] += term.value[e];
    SparseWeight sparse{term.rows, term.columns, {0}, {}, {}};
    auto entry = entries.begin();
    for (std::int64_t row = 0; row < term.rows; ++row) {
      for (; entry != entries.end() && entry->first.first == row; ++entry) {
        if (entry->second == 0) continue;
        sparse.column.push_back(entry->first.second);
        sparse.value.push_back(entry->second);
      }
      sparse.row_start.push_back(static_cast<std::int64_t>(sparse.column.size()));
    }
    return sparse;
  }

  void declare(const Root& root, const QuantizedLayer& layer) {
    const auto [lowest, highest] = std::ranges::minmax(root.integers);
    const Interval calibrated{static_cast<std::int64_t>(lowest),
                              static_cast<std::int64_t>(highest)};
    const Interval guaranteed = guaranteed_intervals(circuit())[root.value];
    const Interval declared = widened(calibrated, guaranteed, options_);
    const bool feeds_table = reads_.contains(layer.output);
    if (feeds_table && declared.size() > kMaxTableValues) {
      throw Error(
          ErrorCode::accumulator_too_wide,
          fmt::format(
              "the accumulator in [{}, {}] needs {} bits at a table; at most 16 are possible",
              declared.lower, declared.upper, bits_of(declared)),
          fmt::format("layer '{}'", layer.name),
          "fewer bits for weights and activations, or pruning");
    }
    circuit().values[root.value].interval = declared;
    model_.ranges.push_back({layer.name, calibrated, guaranteed, declared, feeds_table});
  }

  // Builds the tables of a root as one node.
  void finish_root(Root root) {
    const std::string name = root.layer != nullptr ? root.layer->output : root.name;
    const auto found = reads_.find(name);
    if (found != reads_.end()) {
      Lut lut;
      lut.operand = root.value;
      const TensorType type = circuit().values[root.value];
      const TableBuilder builder(graph(), type.interval, root.shape,
                                 [&](const Tensor<double>& v) { return root.to_float(v); });
      for (const Read& read : found->second) {
        Table table = builder.build(tail_of(read.tensor), read.quantizer);
        table.name = fmt::format("t{}", table_count_++);
        const auto [low, high] = std::ranges::minmax(table.entries);
        lut.results.push_back(add_value(type.shape, {low, high}));
        results_[name].push_back(lut.results.back());
        table_integers_[name].push_back(apply(table, root));
        lut.tables.push_back(std::move(table));
      }
      circuit().nodes.push_back({table_node_name(found->second[0].tensor, root), std::move(lut)});
    }
    roots_[name] = std::move(root);
  }

  // Tables carry the name of the activation that they stand for.
  std::string table_node_name(const std::string& tensor, const Root& root) const {
    const ElementwiseTail tail = tail_of(tensor);
    return tail.nodes.empty() ? root.name : tail.nodes.back()->name;
  }

  static std::vector<double> apply(const Table& table, const Root& root) {
    const auto elements = static_cast<std::size_t>(number_of_elements(root.shape));
    std::vector<double> result(root.integers.size());
    for (std::size_t i = 0; i < result.size(); ++i) {
      result[i] = static_cast<double>(table.at(static_cast<std::int64_t>(i % elements),
                                               static_cast<std::int64_t>(root.integers[i])));
    }
    return result;
  }

  // Float output = scale * accumulator + offset by element, when the output is an affine function
  // of a root.
  std::optional<AffineTail> output_slopes(const QuantizedOutput& output) const {
    if (output.tensor != output.name)
      return std::nullopt;  // the network quantizes its output itself
    const ElementwiseTail tail = tail_of(output.tensor);
    std::optional<AffineTail> affine = affine_tail(graph(), tail);
    if (!affine) return std::nullopt;
    const auto layer = std::ranges::find_if(
        quantized_.layers, [&](const QuantizedLayer& l) { return l.output == tail.root; });
    if (layer != quantized_.layers.end() && layer->custom) return std::nullopt;
    const auto channels = static_cast<std::size_t>(graph().shapes.at(output.tensor).back());
    for (std::size_t e = 0; e < affine->slope.size(); ++e) {
      double scale = 0, offset = 0;
      if (layer != quantized_.layers.end()) {
        scale = layer->scale[e % layer->scale.size()];
        offset = layer->bias[e % layer->bias.size()] -
                 scale * static_cast<double>(layer->zero[e % layer->zero.size()]);
      } else {
        const auto input = std::ranges::find_if(
            quantized_.inputs, [&](const QuantizedInput& in) { return in.name == tail.root; });
        scale = input->quantizer.parameters().scale[0];
        offset = -scale * static_cast<double>(input->quantizer.parameters().zero_point[0]);
      }
      affine->offset[e] += affine->slope[e] * offset;
      affine->slope[e] *= scale;
      const bool is_per_channel = affine->slope[e] == affine->slope[e % channels];
      if (affine->slope[e] == 0 || !is_per_channel) return std::nullopt;
    }
    return affine;
  }

  void lower_output(const QuantizedOutput& output) {
    const Shape shape = sample_shape(graph().shapes.at(output.name));
    const std::optional<AffineTail> affine = output_slopes(output);
    LoweredOutput lowered{output.name, shape, {}, {}};
    ValueId value = 0;
    if (affine) {
      const auto channels = static_cast<std::size_t>(graph().shapes.at(output.tensor).back());
      lowered.scale.assign(affine->slope.begin(),
                           affine->slope.begin() + static_cast<std::ptrdiff_t>(channels));
      if (std::ranges::all_of(lowered.scale, [&](double s) { return s == lowered.scale[0]; }))
        lowered.scale.resize(1);
      lowered.zero_point = {0};
      value = add_output_bias(output, *affine);
    } else {
      const Integers integers = integers_of({output.tensor, output.quantizer, {}});
      lowered.scale = output.quantizer.parameters().scale;
      lowered.zero_point = output.quantizer.parameters().zero_point;
      value = integers.value;
    }
    // The output's own shape, in the same flat order.
    if (circuit().values[value].shape != shape) {
      const ValueId reshaped = add_value(shape, circuit().values[value].interval);
      circuit().nodes.push_back({output.name, Linear{{{value, ScaleWeight{1}}}, {}, reshaped}});
      value = reshaped;
    }
    circuit().nodes.push_back({output.name, Output{value}});
    model_.outputs.push_back(std::move(lowered));
  }

  // The bias in steps of the accumulator's scale, rounded half to even, added in the circuit.
  ValueId add_output_bias(const QuantizedOutput& output, const AffineTail& affine) {
    const std::string root_name = tail_of(output.tensor).root;
    const Root& root = roots_.at(root_name);
    Linear linear;
    linear.terms.push_back({root.value, ScaleWeight{1}});
    for (std::size_t e = 0; e < affine.slope.size(); ++e) {
      linear.bias.push_back(
          static_cast<std::int64_t>(std::nearbyint(affine.offset[e] / affine.slope[e])));
    }
    if (std::ranges::all_of(linear.bias, [](std::int64_t b) { return b == 0; })) return root.value;
    const auto [low, high] = std::ranges::minmax(linear.bias);
    const Interval interval = circuit().values[root.value].interval;
    linear.result = add_value(circuit().values[root.value].shape,
                              {interval.lower + low, interval.upper + high});
    const ValueId result = linear.result;
    circuit().nodes.push_back({output.name, std::move(linear)});
    return result;
  }

  const QuantizedGraph& quantized_;
  const std::vector<Tensor<double>>& calibration_;
  const LoweringOptions& options_;
  const std::set<std::string> names_;
  std::map<std::string, std::vector<Read>> reads_;  // by root
  std::map<std::string, Root> roots_;
  std::map<std::string, std::vector<ValueId>> results_;  // by root, as reads_
  std::map<std::string, std::vector<std::vector<double>>>
      table_integers_;  // on the calibration data
  int table_count_ = 0;
  LoweredModel model_;
};

}  // namespace

LoweredModel lower(const QuantizedGraph& quantized, const std::vector<Tensor<double>>& calibration,
                   const LoweringOptions& options) {
  if (calibration.size() != quantized.inputs.size()) {
    throw Error(ErrorCode::wrong_shape, fmt::format("calibration has {} inputs, the model {}",
                                                    calibration.size(), quantized.inputs.size()));
  }
  return Lowering(quantized, calibration, options).run();
}

}  // namespace torusml
