#include "circuit/separate_scales.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <set>
#include <string>
#include <utility>

#include "circuit/passes.h"

namespace torusml {
namespace {

// Of the numbers of values of the widest intervals: one bit less of noise is worth no rotation.
constexpr std::uint64_t kFarApart = 4;

using Use = std::pair<ValueId, std::size_t>;  // a lookup's result and the node that reads it

// Values, and single uses of lookups' results, that have one torus scale.
class ScaleTies {
 public:
  explicit ScaleTies(const Circuit& circuit)
      : is_clear_(clear_values(circuit)), uses_(uses_of_lookups(circuit, is_clear_)) {
    std::size_t count = circuit.values.size();
    for (auto& [use, id] : uses_) id = count++;
    parent_.resize(count);
    std::iota(parent_.begin(), parent_.end(), std::size_t{0});
    width_.assign(count, 0);
    for (std::size_t n = 0; n < circuit.nodes.size(); ++n) {
      const auto& op = circuit.nodes[n].op;
      if (const auto* linear = std::get_if<Linear>(&op)) {
        for (const LinearTerm& term : linear->terms) {
          if (!is_clear_[term.operand]) join(id_of({term.operand, n}), linear->result);
        }
      } else if (const auto* lut = std::get_if<Lut>(&op)) {
        read(id_of({lut->operand, n}), circuit.values[lut->operand].interval);
      } else if (const auto* output = std::get_if<Output>(&op)) {
        read(id_of({output->operand, n}), circuit.values[output->operand].interval);
      }
    }
  }

  const std::map<Use, std::size_t>& uses() const { return uses_; }
  std::size_t find(std::size_t id) {
    while (parent_[id] != id) id = parent_[id] = parent_[parent_[id]];
    return id;
  }
  // Values of the widest interval that is read on this scale.
  std::uint64_t width(std::size_t id) { return width_[find(id)]; }
  void join(std::size_t a, std::size_t b) {
    const std::size_t from = find(a), into = find(b);
    width_[into] = std::max(width_[from], width_[into]);
    parent_[from] = into;
  }

 private:
  static std::map<Use, std::size_t> uses_of_lookups(const Circuit& circuit,
                                                    const std::vector<bool>& is_clear) {
    std::vector<bool> is_result(circuit.values.size(), false);
    std::map<Use, std::size_t> uses;
    for (std::size_t n = 0; n < circuit.nodes.size(); ++n) {
      const auto& op = circuit.nodes[n].op;
      const auto add = [&](ValueId value) {
        if (is_result[value]) uses[{value, n}] = 0;
      };
      if (const auto* linear = std::get_if<Linear>(&op)) {
        for (const LinearTerm& term : linear->terms) add(term.operand);
      } else if (const auto* output = std::get_if<Output>(&op)) {
        add(output->operand);
      } else if (const auto* lut = std::get_if<Lut>(&op)) {
        add(lut->operand);
        for (const ValueId result : lut->results) is_result[result] = !is_clear[result];
      }
    }
    return uses;
  }

  std::size_t id_of(Use use) const {
    const auto found = uses_.find(use);
    return found == uses_.end() ? use.first : found->second;
  }
  void read(std::size_t id, Interval interval) {
    std::uint64_t& width = width_[find(id)];
    width = std::max(width, interval.size());
  }

  const std::vector<bool> is_clear_;  // integers have no scale
  std::map<Use, std::size_t> uses_;
  std::vector<std::size_t> parent_;
  std::vector<std::uint64_t> width_;
};

// Ties the uses of one result whose scales are not far apart.
void tie_neighbours(ScaleTies& ties, std::vector<std::size_t> ids) {
  std::ranges::stable_sort(ids, {}, [&](std::size_t id) { return ties.width(id); });
  for (std::size_t i = 1; i < ids.size(); ++i) {
    if (ties.width(ids[i]) < kFarApart * ties.width(ids[i - 1])) ties.join(ids[i - 1], ids[i]);
  }
}

std::map<ValueId, std::vector<Use>> by_value(const ScaleTies& ties) {
  std::map<ValueId, std::vector<Use>> uses;
  for (const auto& [use, id] : ties.uses()) uses[use.first].push_back(use);
  return uses;
}

void redirect(Node& node, ValueId from, ValueId to) {
  if (auto* linear = std::get_if<Linear>(&node.op)) {
    for (LinearTerm& term : linear->terms)
      if (term.operand == from) term.operand = to;
  } else if (auto* lut = std::get_if<Lut>(&node.op)) {
    if (lut->operand == from) lut->operand = to;
  } else if (auto* output = std::get_if<Output>(&node.op)) {
    if (output->operand == from) output->operand = to;
  }
}

std::set<std::string> table_names(const Circuit& circuit) {
  std::set<std::string> names;
  for (const Node& node : circuit.nodes) {
    const auto* lut = std::get_if<Lut>(&node.op);
    for (std::size_t t = 0; lut != nullptr && t < lut->tables.size(); ++t)
      names.insert(lut->tables[t].name);
  }
  return names;
}

// name.2, name.3... whichever is free.
std::string free_name(std::set<std::string>& names, const std::string& name) {
  for (int number = 2;; ++number) {
    std::string numbered = fmt::format("{}.{}", name, number);
    if (names.insert(numbered).second) return numbered;
  }
}

// A further result of the lookup that gives `value`, equal to it.
ValueId add_copy(Circuit& circuit, Lut& lut, ValueId value, std::set<std::string>& names) {
  const auto place =
      static_cast<std::size_t>(std::ranges::find(lut.results, value) - lut.results.begin());
  const auto copy = static_cast<ValueId>(circuit.values.size());
  circuit.values.push_back(TensorType(circuit.values[value]));
  lut.tables.push_back(Table(lut.tables[place]));
  lut.tables.back().name = free_name(names, lut.tables.back().name);
  lut.results.push_back(copy);
  return copy;
}

}  // namespace

Circuit separate_scales(const Circuit& circuit) {
  ScaleTies ties(circuit);
  const std::map<ValueId, std::vector<Use>> uses = by_value(ties);
  for (const auto& [value, of_value] : uses) {
    std::vector<std::size_t> ids;
    for (const Use& use : of_value) ids.push_back(ties.uses().at(use));
    tie_neighbours(ties, std::move(ids));
  }
  Circuit result = circuit;
  std::set<std::string> names = table_names(circuit);
  std::map<ValueId, std::size_t> lookup_of;
  for (std::size_t n = 0; n < circuit.nodes.size(); ++n) {
    if (const auto* lut = std::get_if<Lut>(&circuit.nodes[n].op))
      for (const ValueId value : lut->results) lookup_of[value] = n;
  }
  for (const auto& [value, of_value] : uses) {
    std::map<std::size_t, ValueId> copies;  // by scale
    for (const Use& use : of_value) {
      const std::size_t scale = ties.find(ties.uses().at(use));
      const auto [found, is_new] = copies.emplace(scale, value);
      if (is_new && copies.size() > 1) {
        Lut& lut = std::get<Lut>(result.nodes[lookup_of.at(value)].op);
        found->second = add_copy(result, lut, value, names);
      }
      redirect(result.nodes[use.second], value, found->second);
    }
  }
  return result.values.size() == circuit.values.size() ? circuit : remove_dead_nodes(result);
}

}  // namespace torusml
