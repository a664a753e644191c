#include "circuit/passes.h"

#include <algorithm>
#include <array>
#include <map>
#include <optional>

namespace torusml {
namespace {

constexpr std::array kPasses{
    Pass{"share-lookups", "lookups of one value become one node, equal tables one table",
         share_lookups},
    Pass{"fold-affine-luts", "tables that are affine become linear maps", fold_affine_luts},
    Pass{"remove-dead-nodes", "nodes that no output depends on are dropped", remove_dead_nodes},
};

// Calls use(value) for every value that the node reads, by reference.
template <class NodeType, class Use>
void for_each_operand(NodeType& node, Use&& use) {
  if (auto* linear = std::get_if<Linear>(&node.op)) {
    for (auto& term : linear->terms) use(term.operand);
  } else if (auto* lut = std::get_if<Lut>(&node.op)) {
    use(lut->operand);
  } else if (auto* output = std::get_if<Output>(&node.op)) {
    use(output->operand);
  }
}

bool same_function(const Table& a, const Table& b) {
  return a.domain == b.domain && a.rows == b.rows && a.entries == b.entries &&
         a.row_of_element == b.row_of_element;
}

// The result of an equal table with an equal type, if the node has one.
std::optional<ValueId> find_same(const Circuit& circuit, const Lut& lut, const Table& table,
                                 const TensorType& type) {
  for (std::size_t t = 0; t < lut.tables.size(); ++t) {
    if (same_function(lut.tables[t], table) && circuit.values[lut.results[t]] == type)
      return lut.results[t];
  }
  return std::nullopt;
}

struct Affine {
  std::vector<std::int64_t> slope, start;  // by row: slope * v + start
};

std::optional<Affine> as_affine(const Table& table) {
  Affine affine;
  const auto size = static_cast<std::int64_t>(table.domain.size());
  for (std::int64_t row = 0; row < table.rows; ++row) {
    const std::int64_t* entries = table.entries.data() + row * size;
    const std::int64_t slope = size > 1 ? entries[1] - entries[0] : 0;
    for (std::int64_t i = 1; i < size; ++i) {
      if (entries[i] - entries[i - 1] != slope) return std::nullopt;
    }
    affine.slope.push_back(slope);
    affine.start.push_back(entries[0] - slope * table.domain.lower);
  }
  return affine;
}

Linear as_linear(const Table& table, const Affine& affine, ValueId operand, ValueId result,
                 std::int64_t elements) {
  Linear linear;
  linear.result = result;
  const auto row_of = [&](std::int64_t element) {
    return table.row_of_element.empty() ? 0
                                        : table.row_of_element[static_cast<std::size_t>(element)];
  };
  const bool is_uniform =
      std::ranges::all_of(affine.slope, [&](std::int64_t s) { return s == affine.slope[0]; });
  if (is_uniform && affine.slope[0] != 0) {
    linear.terms.push_back({operand, ScaleWeight{affine.slope[0]}});
  } else if (!is_uniform) {
    SparseRows diagonal(elements);
    for (std::int64_t e = 0; e < elements; ++e) {
      diagonal.add(e, affine.slope[row_of(e)]);
      diagonal.end_row();
    }
    linear.terms.push_back({operand, diagonal.finish()});
  }
  for (std::int64_t e = 0; e < elements; ++e) linear.bias.push_back(affine.start[row_of(e)]);
  if (std::ranges::all_of(linear.bias, [](std::int64_t b) { return b == 0; })) linear.bias.clear();
  return linear;
}

}  // namespace

std::span<const Pass> passes() { return kPasses; }

Circuit run_passes(const Circuit& circuit, const PassObserver& observer) {
  Circuit current = circuit;
  for (const Pass& pass : kPasses) {
    current = pass.run(current);
    if (observer) observer(pass, current);
  }
  return current;
}

Circuit share_lookups(const Circuit& circuit) {
  Circuit result{circuit.name, circuit.values, {}};
  std::map<ValueId, std::size_t> lut_of_operand;
  std::map<ValueId, ValueId> replaced;
  for (Node node : circuit.nodes) {
    for_each_operand(node, [&](ValueId& value) {
      const auto found = replaced.find(value);
      if (found != replaced.end()) value = found->second;
    });
    auto* lut = std::get_if<Lut>(&node.op);
    if (lut == nullptr) {
      result.nodes.push_back(std::move(node));
      continue;
    }
    const auto [place, is_first] = lut_of_operand.emplace(lut->operand, result.nodes.size());
    if (is_first) result.nodes.push_back({node.name, Lut{lut->operand, {}, {}}});
    Lut& shared = std::get<Lut>(result.nodes[place->second].op);
    for (std::size_t t = 0; t < lut->tables.size(); ++t) {
      const std::optional<ValueId> same =
          find_same(result, shared, lut->tables[t], circuit.values[lut->results[t]]);
      if (same) {
        replaced[lut->results[t]] = *same;
      } else {
        shared.tables.push_back(std::move(lut->tables[t]));
        shared.results.push_back(lut->results[t]);
      }
    }
  }
  return remove_dead_nodes(result);
}

Circuit fold_affine_luts(const Circuit& circuit) {
  Circuit result{circuit.name, circuit.values, {}};
  for (const Node& node : circuit.nodes) {
    const auto* lut = std::get_if<Lut>(&node.op);
    if (lut == nullptr) {
      result.nodes.push_back(node);
      continue;
    }
    Lut kept{lut->operand, {}, {}};
    const std::int64_t elements = number_of_elements(circuit.values[lut->operand].shape);
    for (std::size_t t = 0; t < lut->tables.size(); ++t) {
      if (const std::optional<Affine> affine = as_affine(lut->tables[t])) {
        result.nodes.push_back({node.name, as_linear(lut->tables[t], *affine, lut->operand,
                                                     lut->results[t], elements)});
      } else {
        kept.tables.push_back(lut->tables[t]);
        kept.results.push_back(lut->results[t]);
      }
    }
    if (!kept.tables.empty()) result.nodes.push_back({node.name, std::move(kept)});
  }
  return result;
}

Circuit remove_dead_nodes(const Circuit& circuit) {
  std::vector<bool> live(circuit.values.size(), false);
  std::vector<Node> kept;
  for (auto node = circuit.nodes.rbegin(); node != circuit.nodes.rend(); ++node) {
    Node copy = *node;
    if (auto* lut = std::get_if<Lut>(&copy.op)) {
      Lut needed{lut->operand, {}, {}};
      for (std::size_t t = 0; t < lut->tables.size(); ++t) {
        if (!live[lut->results[t]]) continue;
        needed.tables.push_back(std::move(lut->tables[t]));
        needed.results.push_back(lut->results[t]);
      }
      if (needed.tables.empty()) continue;
      *lut = std::move(needed);
    } else if (const auto* linear = std::get_if<Linear>(&copy.op)) {
      if (!live[linear->result]) continue;
    } else if (const auto* input = std::get_if<Input>(&copy.op)) {
      live[input->result] = true;
    }
    for_each_operand(copy, [&](ValueId value) { live[value] = true; });
    kept.push_back(std::move(copy));
  }
  std::ranges::reverse(kept);

  Circuit result{circuit.name, {}, std::move(kept)};
  std::vector<ValueId> renumbered(circuit.values.size());
  const auto define = [&](ValueId& value) {
    renumbered[value] = static_cast<ValueId>(result.values.size());
    result.values.push_back(circuit.values[value]);
    value = renumbered[value];
  };
  for (Node& node : result.nodes) {
    for_each_operand(node, [&](ValueId& value) { value = renumbered[value]; });
    if (auto* input = std::get_if<Input>(&node.op))
      define(input->result);
    else if (auto* linear = std::get_if<Linear>(&node.op))
      define(linear->result);
    else if (auto* lut = std::get_if<Lut>(&node.op))
      std::ranges::for_each(lut->results, define);
  }
  return result;
}

}  // namespace torusml
