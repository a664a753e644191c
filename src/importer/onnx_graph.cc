#include "importer/onnx_graph.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <set>
#include <unordered_map>
#include <unordered_set>

#include "importer/limits.h"
#include "importer/onnx.h"
#include "importer/operators.h"
#include "importer/replacements.h"
#include "torusml/error.h"

namespace torusml {
namespace {

[[noreturn]] void throw_invalid(std::string message, std::string where) {
  throw Error(ErrorCode::invalid_model, std::move(message), std::move(where));
}

void check_versions(const OnnxModel& model, const std::string& file) {
  if (!model.graph) throw_invalid("the model has no graph; perhaps the file is cut", file);
  std::int64_t opset = 0;
  for (const auto& [domain, version] : model.opsets) {
    if (!domain.empty()) continue;
    if (opset != 0 && opset != version) throw_invalid("two opset versions are given", file);
    opset = version;
  }
  if (opset == 0) throw_invalid("no opset version is given; perhaps the file is cut", file);
  if (opset < kMinOpset || opset > kMaxOpset) {
    throw Error(
        ErrorCode::file_version,
        fmt::format("the model uses opset {}; {} to {} can be read", opset, kMinOpset, kMaxOpset),
        file, fmt::format("exporting with opset_version=18"));
  }
}

// From this opset on Softmax is taken along one axis.
constexpr std::int64_t kOneAxisOpset = 13;

class GraphReader {
 public:
  GraphReader(const OnnxModel& model, const ExternalFiles& files, std::string file,
              bool has_factory)
      : source_(*model.graph), files_(files), file_(std::move(file)), has_factory_(has_factory) {
    for (const auto& [domain, version] : model.opsets) {
      domains_.insert(domain);
      if (domain.empty()) opset_ = version;
    }
  }

  WrittenGraph read() {
    result_.graph.name = source_.name;
    collect_initializers();
    collect_producers();
    const std::vector<std::size_t> order = sorted_nodes(reachable_nodes());
    if (!has_factory_) check_supported(order);
    read_inputs();
    read_outputs();
    for (std::size_t i : order) add_node(read_node(i), i);
    read_constants(order);
    return std::move(result_);
  }

 private:
  std::string label(std::size_t i) const {
    const OnnxNode& node = source_.nodes[i];
    const std::string name =
        node.name.empty() && !node.outputs.empty() ? node.outputs[0] : node.name;
    return fmt::format("node '{}' ({})", name, qualified_name(node.domain, node.op_type));
  }

  void collect_initializers() {
    if (source_.has_sparse_initializers) {
      throw Error(ErrorCode::not_supported, "sparse initializers are not supported", file_);
    }
    for (const OnnxTensor& tensor : source_.initializers) {
      if (tensor.name.empty()) throw_invalid("an initializer has no name", file_);
      if (!initializers_.emplace(tensor.name, &tensor).second) {
        throw_invalid(fmt::format("initializer '{}' is given twice", tensor.name), file_);
      }
    }
  }

  // Files of old IR versions list initializers among the inputs: those are constants all the same.
  void collect_producers() {
    for (const OnnxValue& input : source_.inputs) {
      if (input.name.empty()) throw_invalid("an input has no name", file_);
      if (initializers_.count(input.name)) continue;
      if (!inputs_.insert(input.name).second) {
        throw_invalid(fmt::format("input '{}' is given twice", input.name), file_);
      }
    }
    for (std::size_t i = 0; i < source_.nodes.size(); ++i) {
      const OnnxNode& node = source_.nodes[i];
      if (node.op_type.empty()) throw_invalid("a node has no operator", label(i));
      if (!domains_.count(node.domain)) {
        throw_invalid(fmt::format("no opset version is given for domain '{}'; perhaps the file is "
                                  "cut",
                                  node.domain),
                      label(i));
      }
      for (const std::string& output : node.outputs) {
        if (output.empty()) continue;
        if (inputs_.count(output) || initializers_.count(output) ||
            !producers_.emplace(output, i).second) {
          throw_invalid(fmt::format("tensor '{}' is written a second time", output), label(i));
        }
      }
    }
    for (std::size_t i = 0; i < source_.nodes.size(); ++i) {
      for (const std::string& input : source_.nodes[i].inputs) {
        if (!input.empty() && !exists(input)) {
          throw_invalid(fmt::format("tensor '{}' is read, but nothing writes it", input), label(i));
        }
      }
    }
  }

  bool exists(const std::string& tensor) const {
    return inputs_.count(tensor) || initializers_.count(tensor) || producers_.count(tensor);
  }

  std::set<std::size_t> reachable_nodes() const {
    std::set<std::size_t> reached;
    std::vector<std::size_t> open;
    const auto visit = [&](const std::string& tensor) {
      const auto found = producers_.find(tensor);
      if (found != producers_.end() && reached.insert(found->second).second) {
        open.push_back(found->second);
      }
    };
    for (const OnnxValue& output : source_.outputs) visit(output.name);
    while (!open.empty()) {
      const OnnxNode& node = source_.nodes[open.back()];
      open.pop_back();
      for (const std::string& input : node.inputs) visit(input);
    }
    return reached;
  }

  // In the file's order, as far as each node comes behind those that it reads.
  std::vector<std::size_t> sorted_nodes(const std::set<std::size_t>& nodes) const {
    std::unordered_map<std::size_t, int> waits;
    std::unordered_map<std::size_t, std::vector<std::size_t>> readers;
    std::set<std::size_t> ready;
    for (std::size_t i : nodes) {
      int& count = waits[i];
      for (const std::string& input : source_.nodes[i].inputs) {
        const auto found = producers_.find(input);
        if (found == producers_.end()) continue;
        readers[found->second].push_back(i);
        ++count;
      }
      if (count == 0) ready.insert(i);
    }
    std::vector<std::size_t> order;
    while (!ready.empty()) {
      const std::size_t i = *ready.begin();
      ready.erase(ready.begin());
      order.push_back(i);
      for (std::size_t reader : readers[i]) {
        if (--waits[reader] == 0) ready.insert(reader);
      }
    }
    for (std::size_t i : nodes) {
      if (waits[i] > 0) throw_invalid("the node reads its own result (a cycle)", label(i));
    }
    return order;
  }

  // All that is missing, in one error: unknown operators, and those that only constants may use.
  void check_supported(const std::vector<std::size_t>& order) const {
    std::vector<std::string> refused;
    std::unordered_set<std::string> dependent(inputs_.begin(), inputs_.end());
    for (std::size_t i : order) {
      const OnnxNode& node = source_.nodes[i];
      const bool depends = std::any_of(node.inputs.begin(), node.inputs.end(),
                                       [&](const auto& name) { return dependent.count(name); });
      const bool reads_shape =
          node.domain.empty() && (node.op_type == "Shape" || node.op_type == "Size");
      const Operator* op = find_operator(node.domain, node.op_type);
      if (!op) {
        const std::string way_out = node.domain.empty() ? replacement_for(node.op_type) : "";
        refused.push_back(label(i) + (way_out.empty() ? "" : fmt::format(": {}", way_out)));
      } else if (depends && !reads_shape && op->role == OperatorRole::constants_only) {
        refused.push_back(label(i) + ", which is supported on constants only");
      }
      if (depends && !reads_shape) dependent.insert(node.outputs.begin(), node.outputs.end());
    }
    if (!refused.empty()) throw_unsupported(refused, file_);
  }

  void read_inputs() {
    bool first = true;
    for (const OnnxValue& value : source_.inputs) {
      if (initializers_.count(value.name)) continue;
      result_.graph.inputs.push_back(read_input(value));
      GraphInput& input = result_.graph.inputs.back();
      const bool symbolic = !(*value.shape)[0].value || (*value.shape)[0].value == 0;
      if (!first && (symbolic != result_.symbolic_batch ||
                     input.shape[0] != result_.graph.inputs[0].shape[0])) {
        throw Error(ErrorCode::not_supported,
                    fmt::format("inputs '{}' and '{}' differ in their first axis, the batch",
                                result_.graph.inputs[0].name, input.name),
                    file_);
      }
      result_.symbolic_batch = symbolic;
      first = false;
    }
    if (first) throw_invalid("the model has no input", file_);
  }

  GraphInput read_input(const OnnxValue& value) {
    const std::string where = fmt::format("input '{}'", value.name);
    const std::optional<ElementType> type = onnx_element_type(value.element_type);
    if (!value.is_tensor || !type) {
      throw Error(
          ErrorCode::not_supported,
          fmt::format("inputs of type {} are not supported", onnx_type_name(value.element_type)),
          where);
    }
    if (!value.shape) throw Error(ErrorCode::dynamic_shape, "it has no shape", where);
    if (value.shape->empty()) {
      throw Error(ErrorCode::not_supported, "it is a scalar: there is no batch axis", where);
    }
    GraphInput input{value.name, {}, *type};
    for (std::size_t axis = 0; axis < value.shape->size(); ++axis) {
      input.shape.push_back(read_dimension((*value.shape)[axis], axis, where));
    }
    result_.element_types[value.name] = value.element_type;
    checked_elements(input.shape);
    return input;
  }

  // A dimension that has neither value nor symbol is unknown; a value of 0 says the same in old
  // files.
  std::int64_t read_dimension(const OnnxDimension& dimension, std::size_t axis,
                              const std::string& where) const {
    const std::int64_t size = dimension.value.value_or(0);
    if (size > 0) return size;
    if (size < 0 || (axis > 0 && dimension.value)) {
      throw_invalid(fmt::format("axis {} has size {}", axis, size), where);
    }
    if (axis == 0) return 1;
    throw Error(ErrorCode::dynamic_shape,
                fmt::format("axis {} has no fixed size ('{}'); only the first axis, the batch, may "
                            "be dynamic",
                            axis, dimension.symbol),
                where, "an export with fixed shapes");
  }

  void read_outputs() {
    for (const OnnxValue& output : source_.outputs) {
      if (!exists(output.name)) {
        throw_invalid(fmt::format("output '{}' is written by no node", output.name), file_);
      }
      auto& outputs = result_.graph.outputs;
      if (std::find(outputs.begin(), outputs.end(), output.name) != outputs.end()) {
        throw_invalid(fmt::format("output '{}' is given twice", output.name), file_);
      }
      outputs.push_back(output.name);
    }
    if (result_.graph.outputs.empty()) throw_invalid("the model has no output", file_);
  }

  FloatNode read_node(std::size_t i) {
    const OnnxNode& source = source_.nodes[i];
    FloatNode node;
    node.op_type = source.op_type;
    node.domain = source.domain;
    node.name = unique_name(source, i);
    node.inputs = source.inputs;
    while (!node.inputs.empty() && node.inputs.back().empty()) node.inputs.pop_back();
    node.outputs = used_outputs(source, i);
    for (const OnnxAttribute& attribute : source.attributes) {
      if (!node.attributes.emplace(attribute.name, read_attribute(attribute, node)).second) {
        throw_invalid(fmt::format("attribute '{}' is given twice", attribute.name), label(i));
      }
    }
    if (const Operator* op = find_operator(node.domain, node.op_type)) check_node(node, *op);
    return node;
  }

  // A Split or a TopK becomes one node for each result that is used.
  void add_node(FloatNode node, std::size_t i) {
    auto& nodes = result_.graph.nodes;
    const bool is_softmax = node.op_type == "Softmax" || node.op_type == "LogSoftmax";
    if (is_softmax && opset_ < kOneAxisOpset) node.attributes["flattened"] = std::int64_t{1};
    if (!has_several_results(source_.nodes[i])) return nodes.push_back(std::move(node));
    const std::vector<std::string>& outputs = source_.nodes[i].outputs;
    node.attributes.erase("num_outputs");
    node.attributes["outputs"] = static_cast<std::int64_t>(outputs.size());
    const std::string name = node.name;
    for (std::size_t k = 0; k < outputs.size(); ++k) {
      if (outputs[k].empty() || !is_used(outputs[k])) continue;
      if (k > 0) node.name = fmt::format("{}/{}", name, k);
      node.outputs = {outputs[k]};
      node.attributes["output"] = static_cast<std::int64_t>(k);
      nodes.push_back(node);
    }
  }

  static bool has_several_results(const OnnxNode& node) {
    return node.domain.empty() && (node.op_type == "Split" || node.op_type == "TopK");
  }

  bool is_used(const std::string& tensor) const {
    const auto reads = [&](const OnnxNode& node) {
      return std::ranges::find(node.inputs, tensor) != node.inputs.end();
    };
    return std::ranges::any_of(source_.nodes, reads) ||
           std::ranges::any_of(source_.outputs,
                               [&](const OnnxValue& output) { return output.name == tensor; });
  }

  std::string unique_name(const OnnxNode& source, std::size_t i) {
    const std::string wanted =
        source.name.empty() ? fmt::format("{}_{}", source.op_type, i) : source.name;
    std::string name = wanted;
    while (names_.count(name)) name = fmt::format("{}_{}", wanted, ++names_[wanted]);
    names_.emplace(name, 1);
    return name;
  }

  // Our operators have one output; the others (Dropout's mask...) must be unused.
  std::vector<std::string> used_outputs(const OnnxNode& source, std::size_t i) const {
    if (has_several_results(source) && !source.outputs.empty()) return {source.outputs[0]};
    if (source.outputs.empty() || source.outputs[0].empty()) {
      throw_invalid("the node has no first output", label(i));
    }
    const std::unordered_set<std::string> others(source.outputs.begin() + 1, source.outputs.end());
    const auto refuse = [&](const std::string& name) {
      if (!name.empty() && others.count(name)) {
        throw Error(ErrorCode::not_supported,
                    fmt::format("output '{}' is used; only the first output is supported", name),
                    label(i));
      }
    };
    if (!others.empty()) {
      const bool named =
          std::any_of(others.begin(), others.end(), [](const auto& name) { return !name.empty(); });
      if (named && source.op_type == "BatchNormalization") {
        throw Error(ErrorCode::not_supported, "batch normalization is in training mode", label(i),
                    "model.eval() before the export");
      }
      for (const OnnxNode& node : source_.nodes) {
        for (const std::string& input : node.inputs) refuse(input);
      }
      for (const OnnxValue& output : source_.outputs) refuse(output.name);
    }
    return {source.outputs[0]};
  }

  Attribute read_attribute(const OnnxAttribute& attribute, const FloatNode& node) const {
    if (!attribute.reference.empty()) {
      throw_invalid(fmt::format("attribute '{}' refers to a function's attribute", attribute.name),
                    describe(node));
    }
    switch (static_cast<OnnxAttributeType>(attribute.type)) {
      case OnnxAttributeType::number:
        return attribute.f;
      case OnnxAttributeType::integer:
        return attribute.i;
      case OnnxAttributeType::string:
        return attribute.s;
      case OnnxAttributeType::numbers:
        return attribute.floats;
      case OnnxAttributeType::integers:
        return attribute.ints;
      case OnnxAttributeType::tensor:
        if (attribute.t) return read_named(*attribute.t, attribute.name, node);
        [[fallthrough]];
      default:
        throw Error(ErrorCode::not_supported,
                    fmt::format("attribute '{}' has attribute type {}, which is not supported",
                                attribute.name, attribute.type),
                    describe(node));
    }
  }

  // Tensors of attributes have no name of their own in errors.
  FloatTensor read_named(const OnnxTensor& tensor, const std::string& attribute,
                         const FloatNode& node) const {
    try {
      return read_tensor(tensor, files_);
    } catch (const Error& error) {
      throw Error(error.code(), fmt::format("attribute '{}': {}", attribute, error.message()),
                  describe(node), error.hint());
    }
  }

  void check_node(const FloatNode& node, const Operator& op) const {
    const auto count = static_cast<int>(node.inputs.size());
    if (count < op.min_inputs || count > op.max_inputs) {
      throw_invalid(fmt::format("the node has {} inputs", count), describe(node));
    }
    for (int i = 0; i < op.min_inputs; ++i) {
      if (node.inputs[i].empty()) {
        throw_invalid(fmt::format("input {} is missing", i), describe(node));
      }
    }
    for (const auto& [name, value] : node.attributes) {
      if (std::find(op.attributes.begin(), op.attributes.end(), name) == op.attributes.end()) {
        throw Error(ErrorCode::not_supported,
                    fmt::format("attribute '{}' of this operator is not known", name),
                    describe(node));
      }
    }
  }

  void read_constants(const std::vector<std::size_t>& order) {
    const auto add = [&](const std::string& name) {
      const auto found = initializers_.find(name);
      if (found == initializers_.end() || result_.graph.constants.count(name)) return;
      result_.graph.constants.emplace(name, read_tensor(*found->second, files_));
      result_.element_types[name] = found->second->data_type;
    };
    for (std::size_t i : order) {
      for (const std::string& input : source_.nodes[i].inputs) add(input);
      // The type of a Constant node's tensor says what range a zero point stands for.
      for (const OnnxAttribute& attribute : source_.nodes[i].attributes) {
        if (source_.nodes[i].op_type == "Constant" && attribute.t) {
          result_.element_types[source_.nodes[i].outputs[0]] = attribute.t->data_type;
        }
      }
    }
    for (const std::string& output : result_.graph.outputs) add(output);
  }

  const OnnxGraph& source_;
  const ExternalFiles& files_;
  const std::string file_;
  const bool has_factory_;
  std::unordered_set<std::string> domains_;
  std::int64_t opset_ = 0;
  WrittenGraph result_;
  std::unordered_map<std::string, const OnnxTensor*> initializers_;
  std::unordered_set<std::string> inputs_;
  std::unordered_map<std::string, std::size_t> producers_;
  std::unordered_map<std::string, int> names_;  // and the last number given to a copy
};

}  // namespace

void throw_unsupported(const std::vector<std::string>& nodes, const std::string& file) {
  throw Error(
      ErrorCode::unsupported_operator,
      fmt::format("{} {} not supported: {}", nodes.size(),
                  nodes.size() == 1 ? "operator is" : "operators are", fmt::join(nodes, "; ")),
      file, fmt::format("one of these: {}", fmt::join(supported_operators(), ", ")));
}

WrittenGraph read_graph(const OnnxModel& model, const ExternalFiles& files, const std::string& file,
                        bool has_factory) {
  check_versions(model, file);
  return GraphReader(model, files, file, has_factory).read();
}

}  // namespace torusml
