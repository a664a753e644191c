#include "circuit/idle_lookups.h"

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include "circuit/passes.h"

namespace torusml {
namespace {

// Stored entries of a sparse weight that may come of fewer: elements removed at irregular places
// make patterns of rows that were one.
constexpr std::size_t kMostGrowth = 2, kManyEntries = std::size_t{1} << 20;
// Of a lookup's elements, as a divisor: fewer that are idle are not worth other weights.
constexpr std::size_t kLeastShare = 64;

std::size_t elements_of(const Circuit& circuit, ValueId value) {
  return static_cast<std::size_t>(number_of_elements(circuit.values[value].shape));
}

// Calls visit(column, factor) for what row `row` of the flat map reads.
template <class Visit>
void for_each_entry(const Weight& weight, std::size_t row, const Visit& visit) {
  if (const auto* dense = std::get_if<DenseWeight>(&weight)) {
    const auto rows = static_cast<std::size_t>(dense->rows),
               columns = static_cast<std::size_t>(dense->columns);
    const std::int64_t* factors = dense->data.data() + row % rows * columns;
    for (std::size_t c = 0; c < columns; ++c) {
      if (factors[c] != 0) visit(row / rows * columns + c, factors[c]);
    }
  } else if (const auto* sparse = std::get_if<SparseWeight>(&weight)) {
    sparse->row(static_cast<std::int64_t>(row))
        .for_each([&](std::int64_t column, std::int64_t factor) {
          if (factor != 0) visit(static_cast<std::size_t>(column), factor);
        });
  } else if (const std::int64_t factor = std::get<ScaleWeight>(weight).factor; factor != 0) {
    visit(row, factor);
  }
}

std::size_t stored_entries(const Weight& weight) {
  if (const auto* dense = std::get_if<DenseWeight>(&weight)) return dense->data.size();
  const auto* sparse = std::get_if<SparseWeight>(&weight);
  return sparse == nullptr ? 1 : sparse->value.size();
}

// Elements that stay, and where they stand then.
struct Kept {
  std::vector<std::size_t> elements;
  std::vector<std::optional<std::size_t>> place;  // by element

  explicit Kept(const std::vector<bool>& stays) : place(stays.size()) {
    for (std::size_t e = 0; e < stays.size(); ++e) {
      if (!stays[e]) continue;
      place[e] = elements.size();
      elements.push_back(e);
    }
  }
};

class IdleLookups {
 public:
  explicit IdleLookups(const Circuit& circuit)
      : circuit_(circuit),
        intervals_(element_intervals(circuit)),
        is_live_(circuit.values.size()),
        readers_(circuit.values.size(), 0) {
    for (std::size_t v = 0; v < circuit.values.size(); ++v)
      is_live_[v].assign(elements_of(circuit, static_cast<ValueId>(v)), false);
    for (auto node = circuit.nodes.rbegin(); node != circuit.nodes.rend(); ++node) find_live(*node);
    for (const Node& node : circuit.nodes) find_kept(node);
  }

  Circuit run() {
    while (true) {
      too_irregular_.clear();
      Circuit result = rewritten();
      if (too_irregular_.empty()) return remove_dead_nodes(result);
      for (const ValueId value : too_irregular_) forget(value);
    }
  }

 private:
  bool is_constant(ValueId value, std::size_t element) const {
    const Interval interval = intervals_[value][element];
    return interval.lower == interval.upper;
  }

  void find_live(const Node& node) {
    if (const auto* output = std::get_if<Output>(&node.op)) {
      is_live_[output->operand].assign(is_live_[output->operand].size(), true);
      ++readers_[output->operand];
    } else if (const auto* linear = std::get_if<Linear>(&node.op)) {
      const std::vector<bool>& results = is_live_[linear->result];
      for (const LinearTerm& term : linear->terms) {
        std::vector<bool>& operand = is_live_[term.operand];
        auto dead = static_cast<std::size_t>(std::ranges::count(operand, false));
        for (std::size_t row = 0; row < results.size() && dead > 0; ++row) {
          if (!results[row]) continue;
          for_each_entry(term.weight, row, [&](std::size_t column, std::int64_t) {
            dead -= operand[column] ? 0 : 1;
            operand[column] = true;
          });
        }
        ++readers_[term.operand];
      }
    } else if (const auto* lut = std::get_if<Lut>(&node.op)) {
      std::vector<bool>& operand = is_live_[lut->operand];
      for (std::size_t e = 0; e < operand.size(); ++e)
        operand[e] = operand[e] || is_needed(*lut, e);
      ++readers_[lut->operand];
    }
  }

  bool is_needed(const Lut& lut, std::size_t element) const {
    return std::ranges::any_of(lut.results, [&](ValueId result) {
      return is_live_[result][element] && !is_constant(result, element);
    });
  }

  // By lookup: what stays of its operand, and with it of its results.
  void find_kept(const Node& node) {
    const auto* lut = std::get_if<Lut>(&node.op);
    if (lut == nullptr) return;
    std::vector<bool> stays(elements_of(circuit_, lut->operand));
    for (std::size_t e = 0; e < stays.size(); ++e) stays[e] = is_needed(*lut, e);
    const auto idle = static_cast<std::size_t>(std::ranges::count(stays, false));
    if (idle == 0 || idle * kLeastShare < stays.size()) return;
    const Kept kept(stays);
    if (readers_[lut->operand] == 1) operands_.emplace(lut->operand, kept);
    for (const ValueId result : lut->results) {
      results_.emplace(result, kept);
      operand_of_[result] = lut->operand;
    }
  }

  void forget(ValueId result) {
    const ValueId operand = operand_of_.at(result);
    operands_.erase(operand);
    for (const auto& [other, its_operand] : operand_of_) {
      if (its_operand == operand) results_.erase(other);
    }
  }

  Circuit rewritten() {
    Circuit to{circuit_.name, circuit_.values, {}};
    small_operands_.clear();
    small_results_.clear();
    for (const Node& node : circuit_.nodes) {
      if (const auto* linear = std::get_if<Linear>(&node.op))
        add(to, node, *linear);
      else if (const auto* lut = std::get_if<Lut>(&node.op))
        add(to, node, *lut);
      else
        to.nodes.push_back(node);
    }
    return to;
  }

  // A value of the elements that stay, in place of another one.
  ValueId make_small(Circuit& to, ValueId value, const Kept& kept) const {
    const auto small = static_cast<ValueId>(to.values.size());
    to.values.push_back({{static_cast<std::int64_t>(kept.elements.size())},
                         Interval(circuit_.values[value].interval)});
    return small;
  }

  static const Kept* find(const std::map<ValueId, Kept>& kept, ValueId value) {
    const auto found = kept.find(value);
    return found == kept.end() ? nullptr : &found->second;
  }

  bool reads_small(const Linear& linear) const {
    return std::ranges::any_of(
        linear.terms, [&](const LinearTerm& term) { return results_.contains(term.operand); });
  }

  // The rows that a lookup reads are all that a map computes for it alone.
  void add(Circuit& to, const Node& node, const Linear& linear) {
    const Kept* rows = find(operands_, linear.result);
    if (rows != nullptr && rows->elements.empty()) return;
    if (rows == nullptr && !reads_small(linear)) return to.nodes.push_back(node);
    const std::size_t all = elements_of(circuit_, linear.result);
    const Kept every(std::vector<bool>(all, true));
    const Kept& chosen = rows == nullptr ? every : *rows;
    Linear made{{}, bias_of(linear, chosen), linear.result};
    if (rows != nullptr)
      made.result = small_operands_[linear.result] = make_small(to, linear.result, *rows);
    for (const LinearTerm& term : linear.terms) {
      const Kept* columns = find(results_, term.operand);
      if (columns != nullptr && columns->elements.empty()) continue;
      made.terms.push_back({columns == nullptr ? term.operand : small_results_.at(term.operand),
                            restricted(term, linear.result, chosen, columns)});
      const std::size_t entries = stored_entries(made.terms.back().weight);
      if (columns != nullptr && entries > kManyEntries &&
          entries > kMostGrowth * stored_entries(term.weight))
        too_irregular_.insert(term.operand);
    }
    to.nodes.push_back({node.name, std::move(made)});
  }

  // With what constant elements that are gone add to it. Rows that nothing reads are any number.
  std::vector<std::int64_t> bias_of(const Linear& linear, const Kept& rows) const {
    std::vector<std::int64_t> bias;
    const Interval interval = circuit_.values[linear.result].interval;
    for (const std::size_t row : rows.elements) {
      std::int64_t sum = linear.bias.empty() ? 0 : linear.bias[row];
      for (const LinearTerm& term : linear.terms) {
        const Kept* columns = find(results_, term.operand);
        if (columns == nullptr) continue;
        for_each_entry(term.weight, row, [&](std::size_t column, std::int64_t factor) {
          if (!columns->place[column] && is_constant(term.operand, column))
            sum += factor * intervals_[term.operand][column].lower;
        });
      }
      if (!is_live_[linear.result][row])
        sum = std::clamp<std::int64_t>(0, interval.lower, interval.upper);
      bias.push_back(sum);
    }
    if (std::ranges::all_of(bias, [](std::int64_t b) { return b == 0; })) bias.clear();
    return bias;
  }

  // columns: of the term's operand; null where all stay.
  Weight restricted(const LinearTerm& term, ValueId result, const Kept& rows,
                    const Kept* columns) const {
    const auto* dense = std::get_if<DenseWeight>(&term.weight);
    const std::size_t operands = elements_of(circuit_, term.operand);
    const std::size_t width = columns == nullptr ? operands : columns->elements.size();
    const auto visit_row = [&](std::size_t row, const auto& visit) {
      if (!is_live_[result][row]) return;
      for_each_entry(term.weight, row, [&](std::size_t column, std::int64_t factor) {
        const auto place = columns == nullptr ? std::optional(column) : columns->place[column];
        if (place) visit(*place, factor);
      });
    };
    if (dense != nullptr && static_cast<std::size_t>(dense->columns) == operands) {
      DenseWeight made{
          static_cast<std::int64_t>(rows.elements.size()), static_cast<std::int64_t>(width), {}};
      made.data.assign(rows.elements.size() * width, 0);
      for (std::size_t i = 0; i < rows.elements.size(); ++i) {
        visit_row(rows.elements[i], [&](std::size_t column, std::int64_t factor) {
          made.data[i * width + column] = factor;
        });
      }
      return made;
    }
    SparseRows made(static_cast<std::int64_t>(width));
    for (const std::size_t row : rows.elements) {
      visit_row(row, [&](std::size_t column, std::int64_t factor) {
        made.add(static_cast<std::int64_t>(column), factor);
      });
      made.end_row();
    }
    return made.finish();
  }

  void add(Circuit& to, const Node& node, const Lut& lut) {
    const Kept* kept = find(results_, lut.results.front());
    if (kept == nullptr) return to.nodes.push_back(node);
    if (!kept->elements.empty()) {
      const auto operand = small_operands_.find(lut.operand);
      Lut made{
          operand == small_operands_.end() ? select(to, node, lut.operand, *kept) : operand->second,
          {},
          {}};
      for (std::size_t t = 0; t < lut.tables.size(); ++t) {
        made.tables.push_back(restricted(lut.tables[t], *kept));
        made.results.push_back(make_small(to, lut.results[t], *kept));
        small_results_[lut.results[t]] = made.results.back();
      }
      to.nodes.push_back({node.name, std::move(made)});
    }
    for (const ValueId result : lut.results) put_back(to, node, result, *kept);
  }

  // Entries of the rows that elements read.
  static Table restricted(const Table& table, const Kept& kept) {
    if (table.row_of_element.empty()) return table;
    Table made{table.name, table.domain, 0, {}, {}};
    std::map<std::uint32_t, std::uint32_t> renumbered;
    const auto size = static_cast<std::ptrdiff_t>(table.domain.size());
    for (const std::size_t e : kept.elements) {
      const std::uint32_t row = table.row_of_element[e];
      const auto [known, is_new] =
          renumbered.emplace(row, static_cast<std::uint32_t>(renumbered.size()));
      if (is_new) {
        const auto first = table.entries.begin() + static_cast<std::ptrdiff_t>(row) * size;
        made.entries.insert(made.entries.end(), first, first + size);
      }
      made.row_of_element.push_back(known->second);
    }
    made.rows = static_cast<std::int64_t>(renumbered.size());
    return made;
  }

  // The operand has other readers, or is no linear map's result.
  ValueId select(Circuit& to, const Node& node, ValueId operand, const Kept& kept) const {
    SparseRows rows(static_cast<std::int64_t>(kept.place.size()));
    for (const std::size_t e : kept.elements) {
      rows.add(static_cast<std::int64_t>(e), 1);
      rows.end_row();
    }
    const ValueId small = make_small(to, operand, kept);
    to.nodes.push_back({node.name, Linear{{{operand, rows.finish()}}, {}, small}});
    return small;
  }

  // The whole result, for readers that are no linear maps; without any it is a dead node.
  void put_back(Circuit& to, const Node& node, ValueId result, const Kept& kept) const {
    SparseRows rows(static_cast<std::int64_t>(kept.elements.size()));
    std::vector<std::int64_t> bias;
    for (std::size_t e = 0; e < kept.place.size(); ++e) {
      if (kept.place[e]) rows.add(static_cast<std::int64_t>(*kept.place[e]), 1);
      rows.end_row();
      // One that is not constant is not read.
      bias.push_back(kept.place[e] ? 0 : intervals_[result][e].lower);
    }
    Linear made{{}, std::move(bias), result};
    if (!kept.elements.empty()) made.terms.push_back({small_results_.at(result), rows.finish()});
    to.nodes.push_back({node.name, std::move(made)});
  }

  const Circuit& circuit_;
  const std::vector<std::vector<Interval>> intervals_;         // by value and element, as is_live_
  std::vector<std::vector<bool>> is_live_;                     // some output depends on it
  std::vector<std::size_t> readers_;                           // by value
  std::map<ValueId, Kept> operands_, results_;                 // of lookups that lose elements
  std::map<ValueId, ValueId> operand_of_;                      // by result
  std::map<ValueId, ValueId> small_operands_, small_results_;  // in the circuit that is made
  std::set<ValueId> too_irregular_;
};

}  // namespace

Circuit remove_idle_lookups(const Circuit& circuit) { return IdleLookups(circuit).run(); }

}  // namespace torusml
