#include "quantization/max_pools.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <set>
#include <string>

#include "importer/operators.h"
#include "importer/windows.h"
#include "torusml/error.h"

namespace torusml {
namespace {

bool is_max_pool(const FloatNode& node) {
  return !node.custom && node.domain.empty() &&
         (node.op_type == "MaxPool" || node.op_type == "GlobalMaxPool");
}

class Expansion {
 public:
  Expansion(FloatGraph& graph, StepRules& rules) : graph_(graph), rules_(rules) {}

  void run() {
    for (std::size_t i = 0; i < graph_.nodes.size(); ++i) {
      if (is_max_pool(graph_.nodes[i])) move_behind(i);
    }
    std::vector<FloatNode> nodes = std::move(graph_.nodes);
    graph_.nodes.clear();
    for (FloatNode& node : nodes) {
      if (is_max_pool(node))
        expand(node);
      else
        graph_.nodes.push_back(std::move(node));
    }
  }

 private:
  // The pooling and the one increasing function that reads it change places.
  void move_behind(std::size_t pool) {
    const std::optional<std::size_t> reader = sole_reader(graph_.nodes[pool].outputs[0]);
    if (!reader || !is_increasing(graph_.nodes[*reader])) return;
    FloatNode &first = graph_.nodes[pool], &second = graph_.nodes[*reader];
    const std::string between = first.outputs[0];
    second.inputs[0] = first.inputs[0];
    first.inputs[0] = between;
    std::swap(first.outputs, second.outputs);
    graph_.shapes[between] = graph_.shapes.at(second.inputs[0]);
    // The function takes the place of the pooling, which moves to just behind the function's old
    // place: there the pooling is met again.
    std::rotate(graph_.nodes.begin() + static_cast<std::ptrdiff_t>(pool),
                graph_.nodes.begin() + static_cast<std::ptrdiff_t>(*reader),
                graph_.nodes.begin() + static_cast<std::ptrdiff_t>(*reader) + 1);
  }

  std::optional<std::size_t> sole_reader(const std::string& tensor) const {
    std::optional<std::size_t> reader;
    if (std::ranges::count(graph_.outputs, tensor) > 0) return std::nullopt;
    for (std::size_t i = 0; i < graph_.nodes.size(); ++i) {
      for (const std::string& input : graph_.nodes[i].inputs) {
        if (input != tensor) continue;
        if (reader) return std::nullopt;
        reader = i;
      }
    }
    return reader;
  }

  bool is_increasing(const FloatNode& node) const {
    static const std::set<std::string> kTypes{
        "Relu",     "Clip", "Sigmoid", "Tanh",           "HardSigmoid",
        "Softplus", "Elu",  "Quant",   "QuantizeLinear", "DequantizeLinear"};
    if (node.custom || !kTypes.contains(node.op_type)) return false;
    for (const char* name : {"alpha", "beta"}) {
      if (number_attribute(node, name, 1) < 0) return false;
    }
    // One number for all channels; quantizers have positive scales.
    for (std::size_t i = 1; i < node.inputs.size(); ++i) {
      if (node.inputs[i].empty()) continue;
      const auto constant = graph_.constants.find(node.inputs[i]);
      if (constant == graph_.constants.end() || constant->second.values.data.size() != 1)
        return false;
    }
    const bool is_quantizer = node.op_type == "Quant" || node.op_type.ends_with("Linear");
    return !is_quantizer || graph_.constants.at(node.inputs[1]).values.data[0] > 0;
  }

  void expand(const FloatNode& pool) {
    const Shape shape = graph_.shapes.at(pool.inputs[0]);
    Windows windows;
    try {
      const bool global = pool.op_type == "GlobalMaxPool";
      windows = windows_of(pool, shape, global ? Shape(shape.begin() + 2, shape.end()) : Shape{});
    } catch (const Error& error) {
      throw Error(error.code(), error.message(), describe(pool), error.hint());
    }
    pool_ = &pool;
    count_ = 0;
    rules_.operands.insert(pool.inputs[0]);
    std::string tensor = pool.inputs[0];
    for (std::size_t i = 0; i < windows.input.size(); ++i) tensor = along(tensor, windows, i);
    add("Identity", {tensor}, pool.outputs[0], graph_.shapes.at(tensor));
  }

  // The maxima of windows that extend along one spatial axis.
  std::string along(const std::string& tensor, const Windows& windows, std::size_t axis) {
    if (windows.kernel[axis] == 1 && windows.output[axis] == windows.input[axis] &&
        windows.strides[axis] == 1) {
      return tensor;
    }
    std::string maximum = taken(tensor, windows, axis, 0);
    const Shape shape = graph_.shapes.at(maximum);
    for (std::int64_t k = 1; k < windows.kernel[axis]; ++k) {
      const std::string other = taken(tensor, windows, axis, k);
      const std::string more = add("Sub", {other, maximum}, fresh(), shape);
      const std::string positive = add("Relu", {more}, fresh(), shape);
      rules_.step_of[positive] = pool_->inputs[0];
      maximum = add("Add", {maximum, positive}, fresh(), shape);
      rules_.maxima.insert(maximum);
    }
    return maximum;
  }

  // What stands under place k of the kernel; where that is padding, another place of the window.
  std::string taken(const std::string& tensor, const Windows& windows, std::size_t axis,
                    std::int64_t k) {
    FloatTensor indices{ElementType::integer, {{windows.output[axis]}, {}}};
    for (std::int64_t o = 0; o < windows.output[axis]; ++o) {
      const std::int64_t first = o * windows.strides[axis] - windows.pads_begin[axis];
      const auto is_inside = [&](std::int64_t place) {
        const std::int64_t at = first + place * windows.dilations[axis];
        return at >= 0 && at < windows.input[axis];
      };
      std::int64_t place = k;
      for (std::int64_t other = 0; other < windows.kernel[axis] && !is_inside(place); ++other)
        place = other;
      if (!is_inside(place)) {
        throw Error(
            ErrorCode::invalid_model,
            fmt::format("pooling window {} of spatial axis {} lies wholly in the padding", o, axis),
            describe(*pool_));
      }
      indices.values.data.push_back(static_cast<double>(first + place * windows.dilations[axis]));
    }
    Shape shape = graph_.shapes.at(tensor);
    shape[axis + 2] = windows.output[axis];
    const std::string name = fresh();
    graph_.shapes[name] = indices.values.shape;
    graph_.constants[name] = std::move(indices);
    const std::string result = add("Gather", {tensor, name}, fresh(), shape,
                                   {{"axis", static_cast<std::int64_t>(axis + 2)}});
    rules_.maxima.insert(result);
    return result;
  }

  std::string add(const std::string& op_type, const std::vector<std::string>& inputs,
                  const std::string& output, const Shape& shape,
                  const std::map<std::string, Attribute>& attributes = {}) {
    const std::string name = fmt::format("{}/{}", pool_->name, ++count_);
    graph_.nodes.push_back({name, op_type, "", inputs, {output}, attributes, nullptr});
    graph_.shapes[output] = shape;
    return output;
  }

  std::string fresh() {
    std::string name;
    do {
      name = fmt::format("{}/{}", pool_->outputs[0], ++tensors_);
    } while (graph_.shapes.contains(name));
    return name;
  }

  FloatGraph& graph_;
  StepRules& rules_;
  const FloatNode* pool_ = nullptr;
  int count_ = 0, tensors_ = 0;
};

}  // namespace

void expand_max_pools(FloatGraph& graph, StepRules& rules) { Expansion(graph, rules).run(); }

}  // namespace torusml
