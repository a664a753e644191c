#include "runtime/noise_origins.h"

#include <algorithm>
#include <span>
#include <unordered_map>

#include "runtime/block_noise.h"
#include "runtime/clear_part.h"
#include "runtime/phase_block.h"

namespace torusml {
namespace {

std::uint64_t combine(std::uint64_t hash, std::uint64_t word) {
  return mix_words(hash * 0x9e3779b97f4a7c15 + word + 1);
}

// Tags of a value have two lanes: that of the mask, and that of mask and body, which constants
// change.
class OriginFinder {
 public:
  OriginFinder(const Circuit& circuit, const Plan& plan,
               const std::map<std::size_t, std::vector<Torus>>& constants,
               const std::map<std::size_t, std::vector<TorusTable>>& tables)
      : circuit_(circuit),
        plan_(plan),
        constants_(constants),
        tables_(tables),
        is_clear_(clear_values(circuit)),
        tags_(circuit.values.size()) {}

  NoiseOrigins run() {
    for (std::size_t n = 0; n < circuit_.nodes.size(); ++n) {
      const Node& node = circuit_.nodes[n];
      if (is_clear_node(node, is_clear_))
        set_clear(node);
      else if (const auto* input = std::get_if<Input>(&node.op))
        set_fresh(input->result);
      else if (const auto* linear = std::get_if<Linear>(&node.op))
        follow(*linear, constants_.at(n));
      else if (const auto* lut = std::get_if<Lut>(&node.op))
        follow(*lut, n);
      else
        follow(std::get<Output>(node.op), n);
    }
    for (auto& [node, lookup] : origins_.lookups) drop_plain(lookup);
    for (auto& [node, output] : origins_.outputs) drop_plain(output);
    return std::move(origins_);
  }

 private:
  PhaseBlock& make(ValueId value) {
    const Shape& shape = circuit_.values[value].shape;
    return tags_[value] = make_block(static_cast<std::size_t>(number_of_elements(shape)), 2);
  }

  void set_fresh(ValueId value) {
    PhaseBlock& tags = make(value);
    for (std::size_t i = 0; i < tags.count; ++i)
      std::ranges::fill(tags.row(i), mix_words(++sources_));
  }

  // Clear values have no mask, and change bodies as no constant does.
  void set_clear(const Node& node) {
    if (const auto* input = std::get_if<Input>(&node.op)) set_clear(input->result);
    if (const auto* linear = std::get_if<Linear>(&node.op)) set_clear(linear->result);
    if (const auto* lut = std::get_if<Lut>(&node.op)) {
      for (const ValueId result : lut->results) set_clear(result);
    }
  }

  void set_clear(ValueId value) {
    PhaseBlock& tags = make(value);
    for (std::size_t i = 0; i < tags.count; ++i) {
      tags.row(i)[0] = 0;
      tags.row(i)[1] = mix_words(++sources_);
    }
  }

  void follow(const Linear& linear, const std::vector<Torus>& constants) {
    PhaseBlock& tags = make(linear.result);
    for (std::size_t i = 0; i < tags.count; ++i) tags.row(i)[1] = constants[i];
    for (const LinearTerm& term : linear.terms) add_term(term.weight, tags_[term.operand], tags);
  }

  void follow(const Lut& lut, std::size_t node) {
    const LookupPlan& lookup = plan_.lookups.at(node);
    if (lookup.wide.index_bits != 0) {
      for (const ValueId result : lut.results) set_fresh(result);
      return;
    }
    for (const ValueId result : lut.results) make(result);
    const PhaseBlock& x = tags_[lut.operand];
    LookupOrigins& origins = origins_.lookups[node];
    origins.inputs.resize(x.count);
    origins.results.assign(lut.tables.size(), std::vector<NoiseOrigin>(x.count));
    const std::size_t size = tables_.at(node).front().table_size;
    for (std::size_t i = 0; i < x.count; ++i) {
      const Torus mask = x.row(i)[0];
      const Torus either = std::min(mask, 0 - mask);
      const std::uint64_t key = combine(combine(either, lookup.key_set), size);
      find(inputs_, key, mask == 0, mask != either, origins.inputs[i]);
      for (std::size_t t = 0; t < lut.tables.size(); ++t)
        follow_read(lut, node, t, i, origins.results[t][i]);
    }
  }

  void follow(const Output& output, std::size_t node) {
    const PhaseBlock& x = tags_[output.operand];
    const auto bits = static_cast<std::uint64_t>(plan_.outputs.at(node).wire_bits);
    std::vector<NoiseOrigin>& origins = origins_.outputs[node];
    if (plan_.outputs.at(node).packed) return;
    origins.resize(x.count);
    for (std::size_t i = 0; i < x.count; ++i) {
      const Torus mask = x.row(i)[0];
      const Torus either = std::min(mask, 0 - mask);
      find(roundings_, combine(either, bits), mask == 0, mask != either, origins[i]);
    }
  }

  void follow_read(const Lut& lut, std::size_t node, std::size_t table, std::size_t element,
                   NoiseOrigin& origin) {
    const LookupPlan& lookup = plan_.lookups.at(node);
    const auto operand = tags_[lut.operand].row(element);
    const auto tag = tags_[lut.results[table]].row(element);
    const bool is_constant = operand[0] == 0;
    const std::uint64_t key = rotation_key(node, lookup, table, element, operand[1]);
    const auto [seen, is_new] = result_tags_.try_emplace(key, 0);
    if (is_new) seen->second = mix_words(++sources_);
    tag[0] = is_constant ? 0 : seen->second;
    tag[1] = seen->second + tables_.at(node)[table].constant_of(element);
    find(results_, key, is_constant, false, origin);
  }

  // What makes the result of a rotation: the ciphertext, all tables of the rotation, and which of
  // them it is.
  std::uint64_t rotation_key(std::size_t node, const LookupPlan& lookup, std::size_t table,
                             std::size_t element, Torus ciphertext) {
    const std::vector<TorusTable>& tables = tables_.at(node);
    const std::size_t together = std::size_t{1} << lookup.rotation.tables_log2;
    const std::size_t begin = table / together * together;
    std::uint64_t key = combine(combine(ciphertext, lookup.key_set), table);
    key = combine(key, lookup.rotation.tables_log2);
    for (std::size_t t = begin; t < std::min(begin + together, tables.size()); ++t)
      key = combine(key, words_key(tables[t], element));
    return key;
  }

  // Of a table's row, each hashed once.
  std::uint64_t words_key(const TorusTable& table, std::size_t element) {
    const Torus* words = table.of_element(element);
    const auto [key, is_new] = words_.try_emplace(words, table.table_size);
    if (is_new) {
      for (std::size_t i = 0; i < table.table_size; ++i)
        key->second = combine(key->second, words[i]);
    }
    return key->second;
  }

  struct First {
    NoiseOrigin* origin;
    bool is_negative;
  };

  void find(std::unordered_map<std::uint64_t, First>& firsts, std::uint64_t key, bool is_absent,
            bool is_negative, NoiseOrigin& origin) {
    if (is_absent) {
      origin.kind = NoiseOrigin::Kind::absent;
      return;
    }
    const auto [seen, is_new] = firsts.try_emplace(key, First{&origin, is_negative});
    if (is_new) return;
    NoiseOrigin& first = *seen->second.origin;
    if (first.kind == NoiseOrigin::Kind::drawn)
      first = {NoiseOrigin::Kind::kept, false, static_cast<std::uint32_t>(origins_.slots++)};
    origin = {NoiseOrigin::Kind::copied, seen->second.is_negative != is_negative, first.slot};
  }

  static void drop_plain(std::vector<NoiseOrigin>& origins) {
    const bool is_plain = std::ranges::all_of(
        origins, [](const NoiseOrigin& origin) { return origin.kind == NoiseOrigin::Kind::drawn; });
    if (is_plain) origins.clear();
  }

  static void drop_plain(LookupOrigins& lookup) {
    drop_plain(lookup.inputs);
    for (std::vector<NoiseOrigin>& results : lookup.results) drop_plain(results);
  }

  const Circuit& circuit_;
  const Plan& plan_;
  const std::map<std::size_t, std::vector<Torus>>& constants_;
  const std::map<std::size_t, std::vector<TorusTable>>& tables_;
  const std::vector<bool> is_clear_;
  std::vector<PhaseBlock> tags_;
  std::uint64_t sources_ = 0;
  std::unordered_map<std::uint64_t, First> inputs_, results_, roundings_;
  std::unordered_map<std::uint64_t, Torus> result_tags_;
  std::unordered_map<const Torus*, std::uint64_t> words_;
  NoiseOrigins origins_;
};

}  // namespace

NoiseOrigins find_noise_origins(const Circuit& circuit, const Plan& plan,
                                const std::map<std::size_t, std::vector<Torus>>& constants,
                                const std::map<std::size_t, std::vector<TorusTable>>& tables) {
  return OriginFinder(circuit, plan, constants, tables).run();
}

}  // namespace torusml
