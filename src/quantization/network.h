// What quantization asks of a float graph: constants, roots of elementwise
// walks, uses.
//
// A root is a graph input or the result of an operator that mixes elements
// (Gemm, Conv, Transpose, a sum of two encrypted tensors...). Every tensor
// that depends on the inputs is an elementwise function of one root, in the
// same flat order.
//
// Thread rule: const use is concurrent. The graph must outlive it. Cost:
// O(nodes).
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "importer/float_graph.h"

namespace torusml {

// y = slope * x + offset by element.
struct AffineFunction {
  std::vector<double> slope, offset;
};

class Network {
 public:
  // Errors: not_supported, naming the node, for a function of two encrypted
  // tensors other than a sum and for operators without a linear map.
  explicit Network(const FloatGraph& graph);

  const FloatGraph& graph() const { return graph_; }
  bool is_dependent(const std::string& tensor) const { return facts_.count(tensor) > 0; }
  bool is_input(const std::string& tensor) const;
  // Tensors that do not depend on the inputs. Error not_supported for one that
  // does.
  const FloatTensor& constant(const std::string& tensor, const FloatNode& reader) const;
  const FloatNode* producer(const std::string& tensor) const;

  const std::set<std::string>& roots() const { return roots_; }
  const std::string& root(const std::string& tensor) const { return facts_.at(tensor).root; }
  // Made of affine operators only (constants may differ by element).
  bool is_affine(const std::string& tensor) const { return facts_.at(tensor).is_affine; }
  // The root's own numbers: nothing but changes of shape between.
  bool is_plain(const std::string& tensor) const { return facts_.at(tensor).is_plain; }
  // From the root to the tensor each tensor is read once.
  bool is_read_once(const std::string& tensor) const { return facts_.at(tensor).is_read_once; }

  std::int64_t elements(const std::string& tensor) const;  // of one sample
  // The tensor by its root. Call it for affine tensors only.
  AffineFunction affine(const std::string& tensor) const;
  FloatTensor evaluate_from_root(const std::string& tensor, const FloatTensor& root_values) const;

  // Inputs of the node that depend on the graph's inputs, as positions.
  std::vector<std::size_t> dependent_inputs(const FloatNode& node) const;

 private:
  struct Facts {
    std::string root;
    bool is_affine = true, is_plain = true, is_read_once = true;
  };

  void add(const FloatNode& node);
  bool add_elementwise(const FloatNode& node, const std::vector<std::size_t>& dependent);

  const FloatGraph& graph_;
  std::map<std::string, FloatTensor> computed_;  // constants that nodes make of constants
  std::unordered_map<std::string, const FloatNode*> producers_;
  std::unordered_map<std::string, std::int64_t> uses_;
  std::unordered_map<std::string, Facts> facts_;  // of tensors that depend on the inputs
  std::set<std::string> roots_;
};

// Changes the shape at most; the flat order stays.
bool keeps_values(const FloatNode& node);
// Every element of the result is one of an operand, or a constant.
bool moves_elements(const FloatNode& node);
// Every element of the result is a sum of elements, divided by a number.
bool averages_elements(const FloatNode& node);
// "node 'fc1' (Gemm)"
std::string describe_node(const FloatNode& node);

}  // namespace torusml
