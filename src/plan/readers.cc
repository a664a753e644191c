#include "plan/readers.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>

#include "circuit/step.h"
#include "parameters/wide_lookups.h"
#include "plan/options.h"
#include "torusml/error.h"

namespace torusml {
namespace {

constexpr int kMaxTableBits = 16;

// Values that linear maps tie to one torus scale.
class ScaleGroups {
 public:
  explicit ScaleGroups(std::size_t values) : parent_(values) {
    std::iota(parent_.begin(), parent_.end(), ValueId{0});
  }

  ValueId find(ValueId value) {
    while (parent_[value] != value) value = parent_[value] = parent_[parent_[value]];
    return value;
  }
  void join(ValueId a, ValueId b) { parent_[find(a)] = find(b); }

 private:
  std::vector<ValueId> parent_;
};

// Boxes of a half torus for steps that reach so far to either side in an interval of so many
// values; 0 where that saves less than a quarter. Widened to a power of two where an eighth is
// enough for it: then borders lie on entries.
std::uint64_t odd_half(std::uint64_t reach, std::uint64_t values) {
  const std::uint64_t power = std::bit_ceil(reach);
  const std::uint64_t half = 8 * reach >= 7 * power ? power : reach;
  return 4 * half < 3 * values ? half : 0;
}

void set_policy(const Circuit& circuit, const PlanOptions& options, Reader& reader) {
  const auto own = options.layers.find(circuit.nodes[reader.node].name);
  const bool has_own = own != options.layers.end();
  reader.policy = has_own ? own->second.policy : options.precision;
  if (reader.policy == Precision::automatic) {
    throw Error(ErrorCode::invalid_argument, "precision \"auto\" is for compile() to decide",
                layer_of(circuit, reader), "\"exact\" or \"tolerant\"");
  }
  if (reader.policy == Precision::rounded) reader.policy = Precision::exact;
  if (has_own) reader.tolerance = own->second.tolerance;
}

// tables: 0 for an output.
Reader make_reader(const Circuit& circuit, const PlanOptions& options, std::size_t node,
                   ValueId operand, std::size_t tables) {
  const TensorType& type = circuit.values[operand];
  Reader reader;
  reader.node = node;
  reader.operand = operand;
  reader.is_lookup = tables != 0;
  reader.values = type.interval.size();
  reader.count = static_cast<std::uint64_t>(number_of_elements(type.shape));
  reader.tables = tables;
  set_policy(circuit, options, reader);
  if (reader.is_lookup && reader.policy == Precision::exact) {
    reader.reach = step_reach(std::get<Lut>(circuit.nodes[node].op)).value_or(reader.values);
    reader.odd_half = odd_half(reader.reach, reader.values);
  }
  return reader;
}

// Those of lookups in the clear are known, too, and make no difference.
void check_layer_names(const Circuit& circuit, const PlanOptions& options) {
  std::vector<std::string> known;
  for (const Node& node : circuit.nodes) {
    if (std::holds_alternative<Lut>(node.op) || std::holds_alternative<Output>(node.op))
      known.push_back(node.name);
  }
  for (const auto& [name, layer] : options.layers) {
    if (std::ranges::find(known, name) != known.end()) continue;
    throw Error(ErrorCode::unknown_option, fmt::format("the circuit has no layer '{}'", name),
                "layers", fmt::format("one of {}", fmt::join(known, ", ")));
  }
}

std::vector<ValueId> find_groups(const Circuit& circuit, const std::vector<bool>& is_clear) {
  ScaleGroups groups(circuit.values.size());
  for (const Node& node : circuit.nodes) {
    const auto* linear = std::get_if<Linear>(&node.op);
    if (linear == nullptr) continue;
    for (const LinearTerm& term : linear->terms) {
      if (!is_clear[term.operand]) groups.join(term.operand, linear->result);
    }
  }
  std::vector<ValueId> group_of(circuit.values.size());
  for (ValueId v = 0; v < group_of.size(); ++v) group_of[v] = groups.find(v);
  return group_of;
}

}  // namespace

Readers find_readers(const Circuit& circuit, const PlanOptions& options) {
  const std::vector<bool> is_clear = clear_values(circuit);
  Readers found{{}, find_groups(circuit, is_clear)};
  for (std::size_t i = 0; i < circuit.nodes.size(); ++i) {
    const Node& node = circuit.nodes[i];
    if (const auto* lut = std::get_if<Lut>(&node.op)) {
      if (is_clear[lut->operand]) continue;
      found.readers.push_back(make_reader(circuit, options, i, lut->operand, lut->tables.size()));
    } else if (const auto* output = std::get_if<Output>(&node.op)) {
      found.readers.push_back(make_reader(circuit, options, i, output->operand, 0));
    }
  }
  for (Reader& reader : found.readers) reader.group = found.group_of[reader.operand];
  check_layer_names(circuit, options);
  return found;
}

void check_width(const Circuit& circuit, const PlanOptions& options, const Reader& reader) {
  if (!reader.is_lookup) return;
  const int bits = static_cast<int>(std::ceil(std::log2(static_cast<double>(reader.values))));
  const Interval interval = circuit.values[reader.operand].interval;
  const std::string what =
      fmt::format("the accumulator in [{}, {}] has {} values and needs {} bits at a table",
                  interval.lower, interval.upper, reader.values, bits);
  const std::string fewer_bits = "fewer bits for weights and activations, or pruning";
  if (bits > kMaxTableBits) {
    throw Error(ErrorCode::accumulator_too_wide,
                fmt::format("{}; at most {} are possible", what, kMaxTableBits),
                layer_of(circuit, reader), fewer_bits);
  }
  if (reader.policy == Precision::exact && bits > options.max_exact_bits) {
    const bool may_tolerate = options.profile == Profile::private_results;
    throw Error(ErrorCode::accumulator_too_wide,
                fmt::format("{}; precision \"exact\" supports {}", what, options.max_exact_bits),
                layer_of(circuit, reader),
                may_tolerate ? tolerant_way(options) + ", " + fewer_bits : fewer_bits);
  }
}

bool may_be_wide(const Reader& reader) {
  return reader.is_lookup && reader.policy == Precision::exact &&
         reader.values > std::uint64_t{1} << (kLeastWideBits - 1);
}

std::string layer_of(const Circuit& circuit, const Reader& reader) {
  return layer_text(circuit.nodes[reader.node].name);
}

std::string tolerant_way(const PlanOptions& options) {
  return options.precision == Precision::rounded ? "rounding by method approximate"
                                                 : "precision \"tolerant\"";
}

}  // namespace torusml
