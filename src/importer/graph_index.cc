#include "importer/graph_index.h"

#include <algorithm>

namespace torusml {

GraphIndex::GraphIndex(const FloatGraph& graph) : graph_(&graph) {
  for (const GraphInput& input : graph.inputs) dependent_.insert(input.name);
  for (const FloatNode& node : graph.nodes) {
    const bool dependent = std::any_of(node.inputs.begin(), node.inputs.end(),
                                       [&](const auto& name) { return dependent_.count(name); });
    for (const std::string& output : node.outputs) {
      producers_[output] = &node;
      if (dependent) dependent_.insert(output);
    }
  }
}

const FloatNode* GraphIndex::producer(std::string_view tensor) const {
  const auto found = producers_.find(tensor);
  return found == producers_.end() ? nullptr : found->second;
}

bool GraphIndex::knows(std::string_view tensor) const {
  return producers_.count(tensor) || dependent_.count(tensor) ||
         graph_->constants.count(std::string(tensor));
}

std::vector<std::string> GraphIndex::dependent_inputs(const FloatNode& node) const {
  std::vector<std::string> names;
  for (const std::string& name : node.inputs) {
    if (depends_on_input(name) && std::find(names.begin(), names.end(), name) == names.end()) {
      names.push_back(name);
    }
  }
  return names;
}

}  // namespace torusml
