// Builds a float graph anew, node by node, with some nodes replaced by others that encrypted data
// can do. Tensors keep their names; new ones are named after the node that they stand for.
//
//   GraphRewriter rewriter(graph, calibration, bits);
//   for (FloatNode& node : old_nodes) rewriter.emit(std::move(node));
//   // within a replacement, see decompositions.h:
//   std::string sum = rewriter.add("Add", {x, y});
//
// Cost: one forward pass of one sample, and of the calibration data where a replacement asks for
// ranges.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "importer/float_graph.h"
#include "quantization/step_rules.h"

namespace torusml {

struct ValueRange {
  double low, high;

  double magnitude() const { return low < -high ? -low : high; }
};

class GraphRewriter {
 public:
  // Clears the graph's nodes; `graph` and `calibration` must outlive it.
  GraphRewriter(FloatGraph& graph, const std::vector<Tensor<double>>& calibration, int bits);

  // The node, or what it is replaced by. Errors: those of the replacement, naming the node.
  void emit(FloatNode node);

  // Within a replacement.
  std::string add(const std::string& op_type, const std::vector<std::string>& inputs,
                  const std::map<std::string, Attribute>& attributes = {});
  // A function of each element.
  std::string apply(std::shared_ptr<const CustomOperator> function, const std::string& name,
                    const std::string& tensor);
  std::string constant(Tensor<double> values);
  std::string integers(const std::vector<std::int64_t>& values);
  std::string number(double value) { return constant({{}, {value}}); }
  std::string reshaped(const std::string& tensor, const Shape& shape);  // a batch axis of any size
  std::string expanded(const std::string& tensor, const Shape& shape);
  // Every `step`-th place of an axis.
  std::string part(const std::string& tensor, std::int64_t axis, std::int64_t first,
                   std::int64_t count, std::int64_t step = 1);
  // Never integers of its own: the sums that read it read what it is made of.
  std::string written_over(const std::string& tensor) {
    rules_.maxima.insert(tensor);
    return tensor;
  }
  // Integers of its own, on a step that the sum which reads it chooses.
  std::string alone(const std::string& tensor);

  bool is_dependent(const std::string& tensor) const { return roots_.contains(tensor); }
  const std::string& root(const std::string& tensor) const { return roots_.at(tensor); }
  const Shape& shape(const std::string& tensor) const { return graph_.shapes.at(tensor); }
  // The numbers of an input of the graph, perhaps of another shape.
  bool is_plain_input(const std::string& tensor) const { return plain_inputs_.contains(tensor); }
  bool is_boolean(const std::string& tensor) const;
  // A truth value, as a boolean or cast to a number.
  bool is_bit(const std::string& tensor) const;
  std::vector<std::string> dependent_inputs(const FloatNode& node) const;
  const FloatTensor& value(const std::string& constant) const;
  // Constant operands, null for what is encrypted or absent.
  std::vector<const FloatTensor*> constant_operands(const FloatNode& node) const;
  // On the calibration data.
  const FloatTensor& values(const std::string& tensor);
  ValueRange range(const std::string& tensor);
  // Frees the values of what replacements made: there may be many more than of the network.
  void forget_made();

  int bits() const { return bits_; }  // of quantized activations
  StepRules& rules() { return rules_; }
  FloatGraph& graph() { return graph_; }

 private:
  std::string add(FloatNode node);  // names it and its result
  void keep(FloatNode node);
  FloatTensor shape_run(const FloatNode& node);
  std::string root_of(const FloatNode& node) const;
  std::string fresh();

  FloatGraph& graph_;
  const std::vector<Tensor<double>>& calibration_;
  const int bits_;
  StepRules rules_;
  std::string node_name_, tensor_name_;  // of the node that is replaced
  int depth_ = 0, nodes_ = 0, tensors_ = 0;
  std::map<std::string, FloatTensor> computed_;  // constants that nodes make of constants
  std::map<std::string, ElementType> types_;
  std::map<std::string, std::string> roots_;
  std::set<std::string> plain_inputs_, bits_of_truth_;
  std::map<std::string, FloatNode> sources_;  // of every tensor, before it was replaced
  std::map<std::string, FloatTensor> values_;
};

}  // namespace torusml
