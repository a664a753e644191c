// A network of floats, as read from ONNX: the importer's result and the oracle that quantization is
// measured against. Operators keep their ONNX names.
//
//   FloatGraph graph = import_onnx("model.onnx");
//   std::map<std::string, FloatTensor> tensors = evaluate(graph, {x});
//   ElementwiseTail tail = elementwise_tail(graph, "next_layers_input", {"accumulator"});
//   FloatTensor y = evaluate_tail(graph, tail, accumulators);
//
// Thread rule: const use is concurrent.
// Cost: evaluate is one forward pass in float64 that keeps every tensor.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <variant>
#include <vector>

#include "torusml/tensor.h"

namespace torusml {

enum class ElementType { floating, integer, boolean };

// All numbers are held in float64; integers are exact up to 2^53.
struct FloatTensor {
  ElementType type = ElementType::floating;
  Tensor<double> values;
};

using Attribute = std::variant<std::int64_t, double, std::string, std::vector<std::int64_t>,
                               std::vector<double>, FloatTensor>;

class CustomOperator;  // a user's operator, see importer/custom_operator.h

// Attributes are ONNX's. The importer adds `minimum` and `maximum` (integers) to a QuantizeLinear:
// the range that the type of its zero point stands for. A custom node lists only the inputs that
// depend on the graph's inputs; its operator holds the others.
struct FloatNode {
  std::string name;  // unique; made up when the file has none
  std::string op_type;
  std::string domain;               // "" for ONNX's own
  std::vector<std::string> inputs;  // "" for an absent optional input
  std::vector<std::string> outputs;
  std::map<std::string, Attribute> attributes;
  std::shared_ptr<const CustomOperator> custom;  // null for the operators of the table
};

struct GraphInput {
  std::string name;
  Shape shape;  // the first axis is the batch; it is 1 here whatever the file says
  ElementType type = ElementType::floating;
  // Of an index: the rows of the constant table that it picks from, by Gather nodes alone. 0: no
  // index.
  std::int64_t rows = 0;
};

// Whatever is computed from constants alone is a constant, except the results of quantizers (Quant,
// QuantizeLinear, DequantizeLinear), which stay nodes on their constant inputs.
struct FloatGraph {
  std::string name;
  std::vector<GraphInput> inputs;
  std::vector<std::string> outputs;
  std::vector<FloatNode> nodes;                  // topological order
  std::map<std::string, FloatTensor> constants;  // initializers and folded constants
  std::map<std::string, Shape> shapes;           // of every tensor, for batch 1
};

// Every tensor of the graph, constants included, by name, for a batch of samples: each input has
// shape (batch, ...). Errors: wrong_shape, non_finite_value (an input or a computed value, naming
// the node).
std::map<std::string, FloatTensor> evaluate(const FloatGraph& graph,
                                            const std::vector<Tensor<double>>& inputs);

// One node on given inputs (absent optional inputs are null). Values may be non-finite.
// Errors: wrong_shape, unsupported_operator.
std::vector<FloatTensor> evaluate_node(const FloatNode& node,
                                       const std::vector<const FloatTensor*>& inputs);

// False for constants and for what is computed from them alone (quantized weights, say).
bool depends_on_input(const FloatGraph& graph, const std::string& tensor);

// The node that writes a tensor; null for inputs and constants.
const FloatNode* producer(const FloatGraph& graph, const std::string& tensor);

// True for operators that act element by element on one operand that depends on the input
// (constants may broadcast, as long as they do not enlarge it): activations, Add/Sub/Mul/Div with
// constants, Cast, Clip, BatchNormalization, quantizers... False for x * sigmoid(x): see
// elementwise_tail.
bool is_univariate(const FloatGraph& graph, const FloatNode& node);

// All that lies between a tensor and the one tensor that it is an elementwise function of: element
// i of `tensor` (flattened) depends on element i of `root` alone.
struct ElementwiseTail {
  std::string root;
  std::string tensor;
  std::vector<const FloatNode*> nodes;  // topological order; empty when tensor is the root itself
};

// Walks back from `tensor` until tensors in `roots` are reached: through elementwise nodes,
// constants and nodes that keep the flat order (Reshape, Flatten, Identity, Squeeze, Unsqueeze,
// Dropout). Errors: not_supported, naming the node, if the walk meets two roots, none, or an
// operator that mixes elements before a root; invalid_argument for an unknown tensor. The graph
// must outlive the tail.
ElementwiseTail elementwise_tail(const FloatGraph& graph, const std::string& tensor,
                                 const std::set<std::string>& roots);

// The tail on given values of the root, any batch: (batch, ...) in the root's shape.
// Errors: wrong_shape, non_finite_value (naming the node).
FloatTensor evaluate_tail(const FloatGraph& graph, const ElementwiseTail& tail,
                          const FloatTensor& root_values);

}  // namespace torusml
