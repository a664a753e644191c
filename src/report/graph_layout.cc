#include "report/graph_layout.h"

#include <algorithm>
#include <iterator>
#include <limits>
#include <set>

namespace torusml {
namespace {

constexpr int kOrderSweeps = 12, kPlaceSweeps = 12;
constexpr double kBendWidth = 0.3;    // of a node's
constexpr double kBendWeight = 1e-3;  // beside a node's

class Layering {
 public:
  explicit Layering(const std::vector<std::vector<std::size_t>>& operands) : operands_(operands) {}

  std::optional<GraphLayout> run(std::size_t most) {
    find_layers();
    if (!fits(most)) return std::nullopt;
    add_items();
    order();
    place();
    return result();
  }

 private:
  // A node, or the bend of an edge.
  struct Item {
    std::size_t layer = 0;
    double x = 0;
    bool is_bend = false;
    std::vector<std::size_t> above, below;
  };

  std::set<std::size_t> sources(std::size_t node) const {
    return {operands_[node].begin(), operands_[node].end()};
  }

  // What reads nothing stands just above its first reader.
  void find_layers() {
    const std::size_t nodes = operands_.size();
    layer_.assign(nodes, 0);
    std::vector<std::size_t> first_reader(nodes, std::numeric_limits<std::size_t>::max());
    for (std::size_t n = 0; n < nodes; ++n) {
      for (const std::size_t source : operands_[n])
        layer_[n] = std::max(layer_[n], layer_[source] + 1);
      for (const std::size_t source : operands_[n])
        first_reader[source] = std::min(first_reader[source], layer_[n]);
    }
    for (std::size_t n = 0; n < nodes; ++n) {
      if (operands_[n].empty() && first_reader[n] <= nodes) layer_[n] = first_reader[n] - 1;
    }
  }

  bool fits(std::size_t most) const {
    std::size_t items = operands_.size();
    for (std::size_t n = 0; n < operands_.size(); ++n) {
      for (const std::size_t source : sources(n)) items += layer_[n] - layer_[source] - 1;
      if (items > most) return false;
    }
    return items <= most;
  }

  void add_items() {
    for (const std::size_t layer : layer_) items_.push_back({.layer = layer});
    for (std::size_t n = 0; n < operands_.size(); ++n) {
      for (const std::size_t source : sources(n)) add_edge(source, n);
    }
    for (std::size_t i = 0; i < items_.size(); ++i) {
      if (items_[i].layer >= rows_.size()) rows_.resize(items_[i].layer + 1);
      rows_[items_[i].layer].push_back(i);
    }
  }

  void add_edge(std::size_t from, std::size_t to) {
    GraphEdge edge{from, to, {}};
    std::vector<std::size_t> path{from};
    for (std::size_t layer = layer_[from] + 1; layer < layer_[to]; ++layer) {
      path.push_back(items_.size());
      items_.push_back({.layer = layer, .is_bend = true});
    }
    path.push_back(to);
    for (std::size_t i = 0; i + 1 < path.size(); ++i) {
      items_[path[i]].below.push_back(path[i + 1]);
      items_[path[i + 1]].above.push_back(path[i]);
    }
    edges_.push_back(edge);
    bends_.emplace_back(path.begin() + 1, path.end() - 1);
  }

  double mean(const std::vector<std::size_t>& neighbours, double otherwise) const {
    if (neighbours.empty()) return otherwise;
    double sum = 0;
    for (const std::size_t i : neighbours) sum += items_[i].x;
    return sum / static_cast<double>(neighbours.size());
  }

  // While the order is found x counts places from the middle of a row.
  void number(const std::vector<std::size_t>& row) {
    for (std::size_t i = 0; i < row.size(); ++i)
      items_[row[i]].x = static_cast<double>(i) - 0.5 * static_cast<double>(row.size() - 1);
  }

  void sort_row(std::vector<std::size_t>& row, bool downwards) {
    std::vector<std::pair<double, std::size_t>> keys;
    for (const std::size_t i : row)
      keys.emplace_back(mean(downwards ? items_[i].above : items_[i].below, items_[i].x), i);
    std::ranges::stable_sort(keys, {}, &std::pair<double, std::size_t>::first);
    for (std::size_t i = 0; i < row.size(); ++i) row[i] = keys[i].second;
    number(row);
  }

  void order() {
    for (const auto& row : rows_) number(row);
    for (int sweep = 0; sweep < kOrderSweeps; ++sweep) {
      for (auto& row : rows_) sort_row(row, true);
      for (std::size_t r = rows_.size(); r-- > 0;) sort_row(rows_[r], false);
    }
  }

  double distance(std::size_t a, std::size_t b) const {
    const auto half = [&](std::size_t i) { return items_[i].is_bend ? 0.5 * kBendWidth : 0.5; };
    return half(a) + half(b);
  }

  // The place that a row wants for an item: what passes beside a node does not draw it aside.
  double wanted(const std::vector<std::size_t>& neighbours, double otherwise) const {
    std::vector<std::size_t> nodes;
    std::ranges::copy_if(neighbours, std::back_inserter(nodes),
                         [&](std::size_t i) { return !items_[i].is_bend; });
    return mean(nodes.empty() ? neighbours : nodes, otherwise);
  }

  // As near to the mean of their neighbours above, or below, as order and distances allow, in
  // weighted least squares by pooling adjacent violators; bends give way to nodes.
  void place_row(const std::vector<std::size_t>& row, bool downwards) {
    struct Pool {
      double sum = 0, weight = 0;
      std::size_t items = 0;
      double mean() const { return sum / weight; }
    };
    std::vector<Pool> pools;
    double offset = 0;
    for (std::size_t i = 0; i < row.size(); ++i) {
      const Item& item = items_[row[i]];
      if (i != 0) offset += distance(row[i - 1], row[i]);
      const bool looks_up = downwards ? !item.above.empty() : item.below.empty();
      const std::vector<std::size_t>& neighbours = looks_up ? item.above : item.below;
      const double weight = item.is_bend ? kBendWeight : 1;
      pools.push_back({weight * (wanted(neighbours, item.x) - offset), weight, 1});
      while (pools.size() > 1 && pools[pools.size() - 2].mean() > pools.back().mean()) {
        const Pool last = pools.back();
        pools.pop_back();
        pools.back() = {pools.back().sum + last.sum, pools.back().weight + last.weight,
                        pools.back().items + last.items};
      }
    }
    std::size_t i = 0;
    offset = 0;
    for (const Pool& pool : pools) {
      for (std::size_t count = 0; count < pool.items; ++count, ++i) {
        if (i != 0) offset += distance(row[i - 1], row[i]);
        items_[row[i]].x = pool.mean() + offset;
      }
    }
  }

  void place() {
    for (int sweep = 0; sweep < kPlaceSweeps; ++sweep) {
      for (std::size_t r = rows_.size(); r-- > 0;) place_row(rows_[r], false);
      for (const auto& row : rows_) place_row(row, true);
    }
  }

  GraphLayout result() {
    double least = 0, most = 0;
    if (!items_.empty()) least = most = items_[0].x;
    for (const Item& item : items_) {
      const double half = item.is_bend ? 0.5 * kBendWidth : 0.5;
      least = std::min(least, item.x - half);
      most = std::max(most, item.x + half);
    }
    const auto point = [&](std::size_t i) {
      return GraphPoint{items_[i].x - least, items_[i].layer};
    };
    GraphLayout layout;
    for (std::size_t n = 0; n < operands_.size(); ++n) layout.nodes.push_back(point(n));
    for (std::size_t e = 0; e < edges_.size(); ++e) {
      for (const std::size_t bend : bends_[e]) edges_[e].bends.push_back(point(bend));
    }
    layout.edges = std::move(edges_);
    layout.width = std::max(1.0, most - least);
    layout.layers = rows_.size();
    return layout;
  }

  const std::vector<std::vector<std::size_t>>& operands_;
  std::vector<std::size_t> layer_;
  std::vector<Item> items_;
  std::vector<std::vector<std::size_t>> rows_;  // items by layer, from left to right
  std::vector<GraphEdge> edges_;
  std::vector<std::vector<std::size_t>> bends_;  // items, by edge
};

}  // namespace

std::optional<GraphLayout> lay_out(const std::vector<std::vector<std::size_t>>& operands,
                                   std::size_t most) {
  return Layering(operands).run(most);
}

}  // namespace torusml
