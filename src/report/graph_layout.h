// Places the nodes of a directed graph in layers, edges downwards, branches side by side.
//
//   std::optional<GraphLayout> layout = lay_out({{}, {0}, {0}, {1, 2}}, 1000);
//   layout->nodes[3];  // {.x = 0.5, .layer = 2}
//
// Layers by longest paths; edges that pass a layer get a bend in it; the order within layers by
// barycentres, places by means of neighbours. Thread rule: pure function. Cost: O(nodes + bends) a
// sweep, some tens of sweeps.
#pragma once

#include <cstddef>
#include <optional>
#include <vector>

namespace torusml {

struct GraphPoint {
  double x = 0;  // in widths of a node; nodes of a layer are at least 1 apart
  std::size_t layer = 0;
};

struct GraphEdge {
  std::size_t from = 0, to = 0;
  std::vector<GraphPoint> bends;  // one in each layer between the two
};

struct GraphLayout {
  std::vector<GraphPoint> nodes;  // centres
  std::vector<GraphEdge> edges;
  double width = 1;  // all nodes lie in [0.5, width - 0.5]
  std::size_t layers = 0;
};

// operands: by node, the nodes that it reads, all of smaller index; repeated ones count once.
// nullopt where nodes and bends are more than `most`.
std::optional<GraphLayout> lay_out(const std::vector<std::vector<std::size_t>>& operands,
                                   std::size_t most);

}  // namespace torusml
