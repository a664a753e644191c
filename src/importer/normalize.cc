#include "importer/normalize.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <random>
#include <set>

#include "importer/custom_operator.h"
#include "importer/lift_batch.h"
#include "importer/operators.h"
#include "importer/shape_run.h"
#include "torusml/error.h"

namespace torusml {
namespace {

// The batch is not, or does not stay, the first axis.
class BatchMoved : public Error {
  using Error::Error;
};

class Normalizer {
 public:
  Normalizer(WrittenGraph written, std::string file, const CustomOperatorFactory& factory)
      : file_(std::move(file)),
        factory_(factory),
        symbolic_batch_(written.symbolic_batch),
        element_types_(std::move(written.element_types)),
        nodes_(std::move(written.graph.nodes)),
        graph_(std::move(written.graph)),
        batch_(graph_.inputs.front().shape.front()),
        run_(graph_, batch_) {
    graph_.nodes.clear();
    for (const GraphInput& input : graph_.inputs) graph_.shapes[input.name] = input.shape;
    for (const auto& [name, tensor] : graph_.constants) graph_.shapes[name] = tensor.values.shape;
  }

  // As traced, with constants folded: it is for that batch only.
  FloatGraph folded() {
    moves_batch_ = true;
    for (FloatNode& node : nodes_) process(node);
    return std::move(graph_);
  }

  // moves_batch: the batch axis need not stay the first, see lift_batch.h.
  FloatGraph result(bool moves_batch) {
    moves_batch_ = moves_batch;
    for (FloatNode& node : nodes_) process(node);
    for (GraphInput& input : graph_.inputs) input.shape[0] = 1;
    drop_unused();
    check_outputs();
    check_indices();
    if (moves_batch) lift_batch(graph_);
    measure_shapes();
    check_batch_axis();
    return std::move(graph_);
  }

 private:
  // Folds the node away, or appends it to the graph, rewritten where it knows the traced batch.
  void process(FloatNode& node) {
    if (factory_ && take_over(node)) return keep(node);
    const Operator* op = find_operator(node.domain, node.op_type);
    if (!op) return refuse(node, "");
    note_type(node);
    const bool reads_shape =
        node.domain.empty() && (node.op_type == "Shape" || node.op_type == "Size");
    if (reads_shape) return fold_shape(node);
    if (run_.are_constant(node) && !op->is_quantizer && inputs_are_folded(node)) return fold(node);
    if (!run_.are_constant(node) && op->role == OperatorRole::constants_only) {
      return refuse(node, ", which is supported on constants only");
    }
    if (!note_index(node)) check_constant_operands(node, *op);
    if (node.op_type == "QuantizeLinear") set_range(node);
    if (node.op_type == "Squeeze") name_squeezed_axes(node);
    keep(node);
    if (!moves_batch_) rewrite_batch(graph_.nodes.back(), *op);
  }

  [[noreturn]] void refuse(const FloatNode& node, const char* why) const {
    throw_unsupported({describe(node) + why}, file_);
  }

  // Masks of attention: what is added to a score, or stands in its place. The largest float does
  // the same, and is a number.
  void bound_masks(FloatNode& node) {
    if (!node.domain.empty() || (node.op_type != "Add" && node.op_type != "Where")) return;
    for (std::string& name : node.inputs) {
      const auto found = graph_.constants.find(name);
      if (found == graph_.constants.end()) continue;
      const auto is_mask = [](double v) { return v == -HUGE_VAL; };
      if (std::ranges::none_of(found->second.values.data, is_mask)) continue;
      FloatTensor bounded = found->second;
      constexpr double kLowest = std::numeric_limits<float>::lowest();
      std::ranges::replace_if(bounded.values.data, is_mask, kLowest);
      const std::string copy = fresh_name(name + "/bounded");
      set_constant(copy, std::move(bounded));
      name = copy;
    }
  }

  void keep(FloatNode& node) {
    bound_masks(node);
    run_.run(node);
    graph_.shapes[node.outputs[0]] = run_.shape(node.outputs[0]);
    graph_.nodes.push_back(std::move(node));
  }

  void set_constant(const std::string& name, FloatTensor value) {
    graph_.shapes[name] = value.values.shape;
    graph_.constants[name] = std::move(value);
  }

  // A name that no tensor has: `wanted`, or that with a number.
  std::string fresh_name(const std::string& wanted) const {
    std::string name = wanted;
    for (int k = 2; graph_.shapes.count(name) || written_later(name); ++k) {
      name = fmt::format("{}_{}", wanted, k);
    }
    return name;
  }

  bool written_later(const std::string& tensor) const {
    return std::any_of(nodes_.begin(), nodes_.end(), [&](const FloatNode& node) {
      return !node.outputs.empty() && node.outputs[0] == tensor;
    });
  }

  // Results of quantizers are no constants of the graph, although they depend on no input.
  bool inputs_are_folded(const FloatNode& node) const {
    return std::all_of(node.inputs.begin(), node.inputs.end(), [&](const std::string& name) {
      return name.empty() || graph_.constants.count(name);
    });
  }

  void fold(const FloatNode& node) {
    run_.run(node);
    set_constant(node.outputs[0], run_.value(node.outputs[0]));
  }

  void fold_shape(const FloatNode& node) {
    const FloatTensor operand{ElementType::floating, {run_.shape(node.inputs[0]), {}}};
    if (node.op_type == "Size") {
      const auto count = static_cast<double>(number_of_elements(operand.values.shape));
      return set_constant(node.outputs[0], {ElementType::integer, {{}, {count}}});
    }
    set_constant(node.outputs[0], evaluate_node(node, {&operand}).front());
  }

  // A factory sees every operand that depends on no input as a constant, and the node keeps the
  // others only.
  bool take_over(FloatNode& node) {
    FloatNode seen = node;
    std::vector<std::string> added;
    for (std::string& name : seen.inputs) {
      if (!run_.is_constant(name) || name.empty() || graph_.constants.count(name)) continue;
      const std::string copy = fresh_name(name + "/value");
      set_constant(copy, run_.value(name));
      added.push_back(copy);
      name = copy;
    }
    std::shared_ptr<const CustomOperator> custom = factory_(seen, graph_);
    for (const std::string& name : added) {
      graph_.constants.erase(name);
      graph_.shapes.erase(name);
    }
    if (!custom) return false;
    node.custom = std::move(custom);
    std::erase_if(node.inputs, [&](const std::string& name) { return run_.is_constant(name); });
    if (node.inputs.empty()) {
      throw Error(ErrorCode::not_supported, "a custom operator has no operand that is not constant",
                  describe(node));
    }
    return true;
  }

  // The type of a folded zero point decides a quantizer's range, so it is followed through.
  void note_type(const FloatNode& node) {
    if (node.op_type == "Cast") {
      element_types_[node.outputs[0]] = static_cast<int>(integer_attribute(node, "to", 0));
    }
    static const std::set<std::string> kKeepsType = {"Identity",  "Reshape", "Squeeze",
                                                     "Unsqueeze", "Expand",  "Clip",
                                                     "Slice",     "Gather",  "Transpose"};
    if (!kKeepsType.count(node.op_type)) return;
    const auto found = element_types_.find(node.inputs[0]);
    if (found != element_types_.end()) element_types_[node.outputs[0]] = found->second;
  }

  void set_range(FloatNode& node) const {
    int type = static_cast<int>(OnnxType::uint8);
    if (node.inputs.size() > 2 && !node.inputs[2].empty()) {
      const auto found = element_types_.find(node.inputs[2]);
      type = found == element_types_.end() ? 0 : found->second;
    } else if (const auto to = integer_attribute(node, "output_dtype", 0); to != 0) {
      type = static_cast<int>(to);
    }
    const std::optional<IntegerRange> range = onnx_integer_range(type);
    if (!range || range->maximum > 4294967295.0) {
      throw Error(ErrorCode::not_supported,
                  fmt::format("quantization to {} is not supported", onnx_type_name(type)),
                  describe(node));
    }
    node.attributes["minimum"] = static_cast<std::int64_t>(range->minimum);
    node.attributes["maximum"] = static_cast<std::int64_t>(range->maximum);
  }

  void check_constant_operands(const FloatNode& node, const Operator& op) const {
    for (std::size_t i = 0; i < node.inputs.size(); ++i) {
      if (static_cast<int>(i) >= op.data_inputs && !run_.is_constant(node.inputs[i])) {
        if (node.op_type == "Gather") refuse_lookup(node);
        throw Error(ErrorCode::not_supported,
                    fmt::format("operand {} ('{}') is not constant", i, node.inputs[i]),
                    describe(node), "a constant; perhaps operands are exchanged");
      }
    }
  }

  // Whether the node picks rows of a constant matrix by an input of the graph, which then is an
  // index. Whoever compiles the graph asks that it is clear.
  bool note_index(const FloatNode& node) {
    if (node.op_type != "Gather" || !node.domain.empty() || node.inputs.size() != 2) return false;
    const auto input = std::ranges::find(graph_.inputs, node.inputs[1], &GraphInput::name);
    if (moves_batch_ || input == graph_.inputs.end() || !run_.is_constant(node.inputs[0]))
      return false;
    const Shape& table = run_.shape(node.inputs[0]);
    const bool picks_rows = table.size() == 2 && table[0] > 1 && table[1] > 0 &&
                            integer_attribute(node, "axis", 0) == 0 &&
                            input->type == ElementType::integer;
    if (picks_rows) input->rows = input->rows == 0 ? table[0] : std::min(input->rows, table[0]);
    return picks_rows;
  }

  // An index is nothing but an index.
  void check_indices() const {
    for (const GraphInput& input : graph_.inputs) {
      if (input.rows == 0) continue;
      const auto uses_it_otherwise = [&](const FloatNode& node) {
        return std::ranges::find(node.inputs, input.name) != node.inputs.end() &&
               !(node.op_type == "Gather" && node.inputs[1] == input.name);
      };
      const auto node = std::ranges::find_if(graph_.nodes, uses_it_otherwise);
      const bool leaves = std::ranges::find(graph_.outputs, input.name) != graph_.outputs.end();
      if (node == graph_.nodes.end() && !leaves) continue;
      throw Error(ErrorCode::not_supported,
                  fmt::format("the index '{}' of an embedding lookup is {}", input.name,
                              leaves ? "an output, too" : "also read as a number"),
                  leaves ? fmt::format("input '{}'", input.name) : describe(*node),
                  "a second input for the number");
    }
  }

  [[noreturn]] void refuse_lookup(const FloatNode& node) const {
    throw Error(
        ErrorCode::not_supported,
        fmt::format("an embedding lookup by '{}', which is not rows of a constant matrix by an "
                    "integer input in the clear",
                    node.inputs[1]),
        describe(node),
        fmt::format("cutting the model behind it: the client looks its indices up in the "
                    "table and encrypts '{}', the model's input instead",
                    node.outputs[0]));
  }

  bool is_batched(const std::string& tensor) const { return !run_.is_constant(tensor); }

  // A Squeeze without axes would take the batch axis away for batch 1, though not for the traced
  // batch.
  void name_squeezed_axes(FloatNode& node) {
    const bool has_axes = node.inputs.size() > 1 || node.attributes.count("axes");
    const bool traced_with_one = batch_ == 1 && !symbolic_batch_;
    if (has_axes || traced_with_one || !is_batched(node.inputs[0])) return;
    const Shape& shape = run_.shape(node.inputs[0]);
    std::vector<std::int64_t> axes;
    for (std::size_t i = 1; i < shape.size(); ++i) {
      if (shape[i] == 1) axes.push_back(static_cast<std::int64_t>(i));
    }
    if (axes.empty()) {
      node.op_type = "Identity";
    } else {
      node.attributes["axes"] = axes;
    }
  }

  void rewrite_batch(FloatNode& node, const Operator& op) {
    if (!is_batched(node.outputs[0])) return;
    const Shape& shape = run_.shape(node.outputs[0]);
    if (shape.empty() || shape[0] != batch_) {
      throw BatchMoved(
          ErrorCode::not_supported,
          fmt::format("the result has shape {} for a batch of {}: its first axis is not the "
                      "batch",
                      to_string(shape), batch_),
          describe(node), "operators that keep the batch first; perhaps operands are exchanged");
    }
    if (node.op_type == "Reshape") set_target(node, -1, shape);
    if (node.op_type == "Expand") rewrite_expand(node, shape);
    if (node.op_type == "Resize") leave_out_batch(node);
    const bool broadcasts = op.role == OperatorRole::elementwise && !op.is_quantizer;
    if (broadcasts || node.op_type == "Gemm") cut_traced_rows(node, shape);
  }

  void set_target(FloatNode& node, std::int64_t first, Shape shape) {
    shape[0] = first;
    const std::string name = fresh_name(node.inputs[1] + "/any_batch");
    FloatTensor target{ElementType::integer, {{static_cast<std::int64_t>(shape.size())}, {}}};
    target.values.data.assign(shape.begin(), shape.end());
    set_constant(name, std::move(target));
    node.inputs[1] = name;
    node.attributes.erase("allowzero");
  }

  void rewrite_expand(FloatNode& node, const Shape& shape) {
    if (shape == run_.shape(node.inputs[0])) {
      node.op_type = "Identity";
      node.inputs.resize(1);
    } else {
      set_target(node, 1, shape);
    }
  }

  // Sizes name that of the traced batch.
  void leave_out_batch(FloatNode& node) {
    const bool has_sizes = node.inputs.size() > 3 && !node.inputs[3].empty();
    if (!has_sizes || node.attributes.count("axes")) return;
    FloatTensor sizes = run_.value(node.inputs[3]);
    std::vector<std::int64_t> axes;
    for (std::size_t i = 1; i < sizes.values.data.size(); ++i)
      axes.push_back(static_cast<std::int64_t>(i));
    sizes.values.data.erase(sizes.values.data.begin());
    sizes.values.shape[0] -= 1;
    const std::string name = fresh_name(node.inputs[3] + "/any_batch");
    set_constant(name, std::move(sizes));
    node.inputs[3] = name;
    node.attributes["axes"] = axes;
  }

  // Constants with a row for each traced sample (a bias that the exporter expanded): the rows must
  // agree.
  void cut_traced_rows(FloatNode& node, const Shape& shape) {
    if (batch_ == 1) return;
    for (std::string& name : node.inputs) {
      if (!graph_.constants.count(name)) continue;
      const Tensor<double>& rows = graph_.constants.at(name).values;
      const bool is_weight = node.op_type == "Gemm" && &name != &node.inputs.back();
      if (is_weight || rows.shape.size() != shape.size() || rows.shape[0] != batch_) continue;
      const auto width = static_cast<std::int64_t>(rows.data.size()) / batch_;
      for (std::size_t i = width; i < rows.data.size(); ++i) {
        if (rows.data[i] != rows.data[i - width]) {
          throw Error(
              ErrorCode::not_supported,
              fmt::format("constant '{}' differs between the {} traced samples", name, batch_),
              describe(node));
        }
      }
      FloatTensor row{graph_.constants.at(name).type, {rows.shape, {}}};
      row.values.shape[0] = 1;
      row.values.data.assign(rows.data.begin(), rows.data.begin() + width);
      const std::string cut = fresh_name(name + "/one_row");
      set_constant(cut, std::move(row));
      name = cut;
    }
  }

  void drop_unused() {
    std::set<std::string> used(graph_.outputs.begin(), graph_.outputs.end());
    std::vector<FloatNode> kept;
    for (auto node = graph_.nodes.rbegin(); node != graph_.nodes.rend(); ++node) {
      if (!used.count(node->outputs[0])) continue;
      used.insert(node->inputs.begin(), node->inputs.end());
      kept.push_back(std::move(*node));
    }
    std::reverse(kept.begin(), kept.end());
    graph_.nodes = std::move(kept);
    std::erase_if(graph_.constants, [&](const auto& entry) { return !used.count(entry.first); });
  }

  void check_outputs() const {
    for (const std::string& output : graph_.outputs) {
      if (run_.is_constant(output)) {
        throw Error(ErrorCode::not_supported,
                    fmt::format("output '{}' does not depend on any input", output), file_);
      }
    }
  }

  void measure_shapes() {
    graph_.shapes.clear();
    ShapeRun run(graph_, 1);
    for (const auto& [name, tensor] : graph_.constants) graph_.shapes[name] = tensor.values.shape;
    for (const GraphInput& input : graph_.inputs) graph_.shapes[input.name] = input.shape;
    for (const FloatNode& node : graph_.nodes) {
      run.run(node);
      graph_.shapes[node.outputs[0]] = run.shape(node.outputs[0]);
    }
  }

  // With two samples instead of one, only the first axis may grow: a node that mixes samples shows.
  void check_batch_axis() const {
    constexpr std::int64_t kBatch = 2;
    ShapeRun run(graph_, kBatch);
    for (const FloatNode& node : graph_.nodes) {
      Shape expected = graph_.shapes.at(node.outputs[0]);
      const auto mixed = [&](const std::string& how) {
        return BatchMoved(
            ErrorCode::not_supported,
            fmt::format("the node does not keep the samples of a batch apart: {}", how),
            describe(node));
      };
      try {
        run.run(node);
      } catch (const Error& error) {
        if (error.code() != ErrorCode::wrong_shape) throw;
        throw mixed(error.message());
      }
      if (run.are_constant(node)) continue;
      const Shape& shape = run.shape(node.outputs[0]);
      const Shape single = expected;
      if (!expected.empty() && expected[0] == 1) expected[0] = kBatch;
      if (shape != expected || single.empty()) {
        throw mixed(fmt::format("its result has shape {} for one sample, but {} for {}",
                                to_string(single), to_string(shape), kBatch));
      }
    }
  }

  const std::string file_;
  const CustomOperatorFactory& factory_;
  const bool symbolic_batch_;
  std::map<std::string, int> element_types_;
  bool moves_batch_ = false;
  std::vector<FloatNode> nodes_;  // as written
  FloatGraph graph_;
  const std::int64_t batch_;  // as traced
  ShapeRun run_;              // with that batch
};

// The network with a batch axis of its own; none if that is impossible, or if the network computes
// anything else for two samples than for each of them.
std::optional<FloatGraph> lifted_graph(WrittenGraph written, const std::string& file,
                                       const CustomOperatorFactory& factory) {
  try {
    FloatGraph lifted = Normalizer(written, file, factory).result(true);
    // Traced with a fixed batch of one, it is a network of one sample.
    if (!written.symbolic_batch) return lifted;
    for (GraphInput& input : written.graph.inputs) input.shape[0] = 2;
    const FloatGraph of_two = Normalizer(std::move(written), file, factory).folded();
    std::mt19937_64 random(1);
    std::uniform_real_distribution<double> uniform(0.25, 1);
    std::vector<Tensor<double>> samples;
    for (const GraphInput& input : of_two.inputs) {
      samples.push_back({input.shape, {}});
      for (std::int64_t i = number_of_elements(input.shape); i > 0; --i)
        samples.back().data.push_back(input.type == ElementType::floating ? uniform(random) : 1);
    }
    const auto expected = evaluate(of_two, samples), got = evaluate(lifted, samples);
    for (const std::string& output : of_two.outputs) {
      const Tensor<double>&a = expected.at(output).values, &b = got.at(output).values;
      if (a.shape != b.shape) return std::nullopt;
      for (std::size_t i = 0; i < a.data.size(); ++i) {
        if (std::abs(a.data[i] - b.data[i]) > 1e-6 * std::max(1.0, std::abs(a.data[i])))
          return std::nullopt;
      }
    }
    return lifted;
  } catch (const Error&) {
    return std::nullopt;
  }
}

}  // namespace

FloatGraph normalize(WrittenGraph written, const std::string& file,
                     const CustomOperatorFactory& factory) {
  const bool has_one_sample = written.graph.inputs.front().shape.front() == 1;
  try {
    return Normalizer(has_one_sample ? written : std::move(written), file, factory).result(false);
  } catch (const BatchMoved& error) {
    if (!has_one_sample) throw Error(error);
    std::optional<FloatGraph> lifted = lifted_graph(std::move(written), file, factory);
    if (!lifted) throw Error(error);
    return *std::move(lifted);
  }
}

}  // namespace torusml
