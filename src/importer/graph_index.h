// Who writes a tensor, and what depends on the graph's input: derived once, for walks over a graph.
//
// Thread rule: const use is concurrent. The graph must outlive the index. Cost: O(nodes log nodes).
#pragma once

#include <string_view>
#include <unordered_map>
#include <unordered_set>

#include "importer/float_graph.h"

namespace torusml {

class GraphIndex {
 public:
  explicit GraphIndex(const FloatGraph& graph);

  const FloatNode* producer(std::string_view tensor) const;
  bool depends_on_input(std::string_view tensor) const { return dependent_.count(tensor) > 0; }
  bool knows(std::string_view tensor) const;

  // Operands that depend on the input, each once.
  std::vector<std::string> dependent_inputs(const FloatNode& node) const;

 private:
  const FloatGraph* graph_;
  std::unordered_map<std::string_view, const FloatNode*> producers_;
  std::unordered_set<std::string_view> dependent_;
};

}  // namespace torusml
