#include "circuit/circuit.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <bit>
#include <set>

#include "base/threads.h"
#include "torusml/error.h"

namespace torusml {
namespace {

// Far above any network that fits in memory, far below an overflow of element counts.
constexpr std::int64_t kMaxElements = std::int64_t{1} << 28;
constexpr std::uint64_t kMaxTableSize = std::uint64_t{1} << 24;
constexpr std::size_t kRowsTogether = 256;  // whose intervals one task computes

template <class... Visitors>
struct Overloaded : Visitors... {
  using Visitors::operator()...;
};
template <class... Visitors>
Overloaded(Visitors...) -> Overloaded<Visitors...>;

std::int64_t elements_of(const Circuit& circuit, ValueId value) {
  return number_of_elements(circuit.values[value].shape);
}

class Verifier {
 public:
  explicit Verifier(const Circuit& circuit)
      : circuit_(circuit), defined_(circuit.values.size(), false) {}

  void run() {
    for (std::size_t i = 0; i < circuit_.values.size(); ++i) check_type(i);
    bool has_output = false;
    for (const Node& node : circuit_.nodes) {
      node_ = &node;
      std::visit([this](const auto& op) { check(op); }, node.op);
      has_output |= std::holds_alternative<Output>(node.op);
    }
    node_ = nullptr;
    if (!has_output) fail("the circuit has no output");
  }

 private:
  [[noreturn]] void fail(const std::string& message) const {
    throw Error(ErrorCode::invalid_circuit, message,
                node_ == nullptr ? circuit_.name : fmt::format("node '{}'", node_->name));
  }

  void require(bool condition, const char* message) const {
    if (!condition) fail(message);
  }

  void check_type(std::size_t value) const {
    const TensorType& type = circuit_.values[value];
    double elements = 1;
    for (std::int64_t dimension : type.shape) {
      if (dimension <= 0) fail(fmt::format("value %{} has dimension {}", value, dimension));
      elements *= static_cast<double>(dimension);  // which no integer may hold
    }
    if (elements > static_cast<double>(kMaxElements)) {
      fail(fmt::format("value %{} has shape {}, more than 2^28 elements", value,
                       to_string(type.shape)));
    }
    constexpr std::int64_t kLimit = std::int64_t{1} << 62;
    if (type.interval.lower > type.interval.upper || type.interval.lower < -kLimit ||
        type.interval.upper > kLimit) {
      fail(fmt::format("value %{} has interval [{}, {}]", value, type.interval.lower,
                       type.interval.upper));
    }
  }

  void use(ValueId value) const {
    if (value >= circuit_.values.size() || !defined_[value])
      fail(fmt::format("%{} is used before it is defined", value));
  }

  void define(ValueId value) {
    if (value >= circuit_.values.size()) fail(fmt::format("%{} has no type", value));
    if (defined_[value]) fail(fmt::format("%{} is defined twice", value));
    defined_[value] = true;
  }

  void check(const Input& input) { define(input.result); }

  void check(const Output& output) const { use(output.operand); }

  void check(const Linear& linear) {
    define(linear.result);
    const std::int64_t results = elements_of(circuit_, linear.result);
    for (const LinearTerm& term : linear.terms) {
      require(term.operand != linear.result, "a linear map reads its own result");
      use(term.operand);
      check_weight(term.weight, elements_of(circuit_, term.operand), results);
    }
    require(linear.bias.empty() || static_cast<std::int64_t>(linear.bias.size()) == results,
            "the bias does not have one integer per element of the result");
  }

  void check_weight(const Weight& weight, std::int64_t operands, std::int64_t results) const {
    std::visit(Overloaded{
                   [&](const DenseWeight& w) {
                     require(w.rows > 0 && w.columns > 0 && w.rows <= kMaxElements &&
                                 w.columns <= kMaxElements,
                             "a dense weight has no rows or no columns");
                     require(static_cast<std::int64_t>(w.data.size()) == w.rows * w.columns,
                             "a dense weight's data does not match its size");
                     require(operands % w.columns == 0 && results == operands / w.columns * w.rows,
                             "a dense weight does not match the shapes");
                   },
                   [&](const SparseWeight& w) { check_sparse(w, operands, results); },
                   [&](const ScaleWeight&) {
                     require(operands == results, "a scale changes the number of elements");
                   },
               },
               weight);
  }

  void check_sparse(const SparseWeight& w, std::int64_t operands, std::int64_t results) const {
    require(w.rows == results && w.columns == operands,
            "a sparse weight does not match the shapes");
    const auto rows = static_cast<std::size_t>(w.rows);
    require(w.pattern.size() == rows && w.shift.size() == rows && !w.pattern_start.empty() &&
                w.pattern_start.front() == 0 &&
                w.pattern_start.back() == static_cast<std::int64_t>(w.offset.size()) &&
                w.offset.size() == w.value.size(),
            "a sparse weight's parts do not match its size");
    require(std::is_sorted(w.pattern_start.begin(), w.pattern_start.end()),
            "a sparse weight's patterns are not in order");
    const std::vector<Interval> spans = offset_spans(w);
    for (std::size_t row = 0; row < rows; ++row) {
      require(w.pattern[row] < w.patterns(), "a sparse weight has a row of no pattern");
      require(w.shift[row] >= 0 && w.shift[row] <= w.columns,
              "a sparse weight has a column out of range");
      if (w.pattern_size(w.pattern[row]) == 0) continue;
      const Interval span = spans[w.pattern[row]];
      require(span.lower >= -w.shift[row] && span.upper < w.columns - w.shift[row],
              "a sparse weight has a column out of range");
    }
  }

  // From the least offset of each pattern to the largest; {0, 0} for an empty one.
  static std::vector<Interval> offset_spans(const SparseWeight& w) {
    std::vector<Interval> spans(w.patterns());
    for (std::size_t p = 0; p < spans.size(); ++p) {
      if (w.pattern_size(p) == 0) continue;
      const auto [least, largest] = std::minmax_element(w.offset.begin() + w.pattern_start[p],
                                                        w.offset.begin() + w.pattern_start[p + 1]);
      spans[p] = {*least, *largest};
    }
    return spans;
  }

  void check(const Lut& lut) {
    use(lut.operand);
    require(!lut.tables.empty() && lut.tables.size() == lut.results.size(),
            "a lut needs one result per table");
    for (std::size_t t = 0; t < lut.tables.size(); ++t) {
      define(lut.results[t]);
      require(circuit_.values[lut.results[t]].shape == circuit_.values[lut.operand].shape,
              "a lut changes the shape");
      check_table(lut.tables[t], circuit_.values[lut.operand].interval,
                  circuit_.values[lut.results[t]].interval, elements_of(circuit_, lut.operand));
    }
  }

  void check_table(const Table& table, Interval domain, Interval range, std::int64_t elements) {
    require(
        !table.name.empty() && std::all_of(table.name.begin(), table.name.end(), is_name_character),
        "a table's name must be made of letters, digits, '_' and '.'");
    require(table_names_.insert(table.name).second, "two tables have the same name");
    require(table.domain == domain, "a table's domain is not the operand's interval");
    require(domain.size() <= kMaxTableSize, "a table has more than 2^24 entries");
    require(table.rows >= 1 && table.rows <= elements,
            "a table has more rows than the tensor has elements");
    require(table.entries.size() == static_cast<std::size_t>(table.rows) * domain.size(),
            "a table's entries do not match its rows and domain");
    require(table.row_of_element.empty()
                ? table.rows == 1
                : static_cast<std::int64_t>(table.row_of_element.size()) == elements,
            "a table's rows are not assigned to every element");
    for (std::uint32_t row : table.row_of_element)
      require(row < table.rows, "a table's row is out of range");
    for (std::int64_t entry : table.entries) {
      if (!range.contains(entry)) {
        fail(fmt::format("table entry {} lies outside the declared interval [{}, {}]", entry,
                         range.lower, range.upper));
      }
    }
  }

  static bool is_name_character(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '.';
  }

  const Circuit& circuit_;
  std::vector<bool> defined_;
  std::set<std::string> table_names_;
  const Node* node_ = nullptr;
};

// Interval arithmetic with the checks that keep every sum inside int64.
class IntervalSum {
 public:
  IntervalSum(const Node& node, std::int64_t start) : node_(node), sum_{start, start} {}

  void add(std::int64_t factor, Interval x) {
    if (factor == 0) return;
    std::int64_t a = 0, b = 0;
    bool overflow = __builtin_mul_overflow(factor, x.lower, &a);
    overflow |= __builtin_mul_overflow(factor, x.upper, &b);
    overflow |= __builtin_add_overflow(sum_.lower, std::min(a, b), &sum_.lower);
    overflow |= __builtin_add_overflow(sum_.upper, std::max(a, b), &sum_.upper);
    constexpr std::int64_t kLimit = std::int64_t{1} << 62;
    if (overflow || sum_.lower < -kLimit || sum_.upper > kLimit) {
      throw Error(ErrorCode::accumulator_too_wide, "an accumulator may need more than 62 bits",
                  fmt::format("layer '{}'", node_.name), "fewer bits for weights and activations");
    }
  }

  Interval result() const { return sum_; }

 private:
  const Node& node_;
  Interval sum_;
};

using ElementIntervals = std::vector<Interval>;

// Of one row of the flat map.
void add_row(const Weight& weight, std::size_t row, const ElementIntervals& x, IntervalSum& sum) {
  std::visit(Overloaded{
                 [&](const DenseWeight& w) {
                   const auto rows = static_cast<std::size_t>(w.rows),
                              columns = static_cast<std::size_t>(w.columns);
                   const std::int64_t* factors = w.data.data() + row % rows * columns;
                   for (std::size_t c = 0; c < columns; ++c)
                     sum.add(factors[c], x[row / rows * columns + c]);
                 },
                 [&](const SparseWeight& w) {
                   w.row(static_cast<std::int64_t>(row))
                       .for_each([&](std::int64_t column, std::int64_t value) {
                         sum.add(value, x[static_cast<std::size_t>(column)]);
                       });
                 },
                 [&](const ScaleWeight& w) { sum.add(w.factor, x[row]); },
             },
             weight);
}

ElementIntervals linear_intervals(const Circuit& circuit, const Node& node, const Linear& linear,
                                  const std::vector<ElementIntervals>& known) {
  const auto elements = static_cast<std::size_t>(elements_of(circuit, linear.result));
  ElementIntervals result(elements);
  parallel_for((elements + kRowsTogether - 1) / kRowsTogether, [&](std::size_t block) {
    const std::size_t first = block * kRowsTogether;
    for (std::size_t i = first; i < std::min(first + kRowsTogether, elements); ++i) {
      IntervalSum sum(node, linear.bias.empty() ? 0 : linear.bias[i]);
      for (const LinearTerm& term : linear.terms) add_row(term.weight, i, known[term.operand], sum);
      result[i] = sum.result();
    }
  });
  return result;
}

ElementIntervals table_intervals(const Table& table, const ElementIntervals& x) {
  ElementIntervals result;
  result.reserve(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) {
    const std::int64_t first = std::clamp(x[i].lower, table.domain.lower, table.domain.upper);
    const std::int64_t last = std::clamp(x[i].upper, table.domain.lower, table.domain.upper);
    Interval reached{table.at(static_cast<std::int64_t>(i), first),
                     table.at(static_cast<std::int64_t>(i), first)};
    for (std::int64_t v = first; v <= last; ++v) {
      const std::int64_t entry = table.at(static_cast<std::int64_t>(i), v);
      reached = hull(reached, {entry, entry});
    }
    result.push_back(reached);
  }
  return result;
}

}  // namespace

Interval hull(Interval a, Interval b) {
  return {std::min(a.lower, b.lower), std::max(a.upper, b.upper)};
}

int bit_width(Interval interval) {
  const auto unsigned_bits = [](std::int64_t v) {
    return static_cast<int>(std::bit_width(static_cast<std::uint64_t>(v)));
  };
  if (interval.lower >= 0) return std::max(1, unsigned_bits(interval.upper));
  const int negative = 1 + unsigned_bits(-(interval.lower + 1));
  const int positive = interval.upper > 0 ? 1 + unsigned_bits(interval.upper) : 1;
  return std::max(negative, positive);
}

void verify(const Circuit& circuit) { Verifier(circuit).run(); }

std::vector<const Node*> input_nodes(const Circuit& circuit) {
  std::vector<const Node*> nodes;
  for (const Node& node : circuit.nodes) {
    if (std::holds_alternative<Input>(node.op)) nodes.push_back(&node);
  }
  return nodes;
}

std::vector<const Node*> output_nodes(const Circuit& circuit) {
  std::vector<const Node*> nodes;
  for (const Node& node : circuit.nodes) {
    if (std::holds_alternative<Output>(node.op)) nodes.push_back(&node);
  }
  return nodes;
}

std::vector<bool> clear_values(const Circuit& circuit) {
  std::vector<bool> is_clear(circuit.values.size(), false);
  const auto inputs = input_nodes(circuit);
  if (std::ranges::none_of(inputs, [](const Node* n) { return std::get<Input>(n->op).is_clear; }))
    return is_clear;
  for (const Node& node : circuit.nodes) {
    if (const auto* input = std::get_if<Input>(&node.op)) {
      is_clear[input->result] = input->is_clear;
    } else if (const auto* linear = std::get_if<Linear>(&node.op)) {
      is_clear[linear->result] = std::ranges::all_of(
          linear->terms, [&](const LinearTerm& term) { return is_clear[term.operand]; });
    } else if (const auto* lut = std::get_if<Lut>(&node.op)) {
      for (const ValueId result : lut->results) is_clear[result] = is_clear[lut->operand];
    }
  }
  return is_clear;
}

void declare_clear(Circuit& circuit, const std::vector<std::string>& inputs) {
  std::vector<std::string> known;
  for (const Node* node : input_nodes(circuit)) known.push_back(node->name);
  std::vector<bool> is_clear(known.size(), false);
  for (const std::string& name : inputs) {
    const auto found = std::ranges::find(known, name);
    if (found == known.end()) {
      throw Error(ErrorCode::unknown_option, fmt::format("the model has no input '{}'", name),
                  "clear inputs", fmt::format("one of {}", fmt::join(known, ", ")));
    }
    is_clear[static_cast<std::size_t>(found - known.begin())] = true;
  }
  if (!inputs.empty() && std::ranges::find(is_clear, false) == is_clear.end()) {
    throw Error(ErrorCode::invalid_argument, "all inputs are in the clear", "clear inputs",
                "at least one that is encrypted");
  }
  mark_clear(circuit, is_clear);
}

void mark_clear(Circuit& circuit, const std::vector<bool>& inputs) {
  std::size_t next = 0;
  for (Node& node : circuit.nodes) {
    auto* input = std::get_if<Input>(&node.op);
    if (input != nullptr && next < inputs.size()) input->is_clear = inputs[next++];
  }
}

std::int64_t lookup_count(const Circuit& circuit) {
  const std::vector<bool> is_clear = clear_values(circuit);
  std::int64_t count = 0;
  for (const Node& node : circuit.nodes) {
    const auto* lut = std::get_if<Lut>(&node.op);
    if (lut != nullptr && !is_clear[lut->operand]) {
      count += elements_of(circuit, lut->operand) * static_cast<std::int64_t>(lut->tables.size());
    }
  }
  return count;
}

std::int64_t linear_multiplications(const Circuit& circuit) {
  const std::vector<bool> is_clear = clear_values(circuit);
  std::int64_t count = 0;
  for (const Node& node : circuit.nodes) {
    const auto* linear = std::get_if<Linear>(&node.op);
    if (linear == nullptr) continue;
    for (const LinearTerm& term : linear->terms) {
      if (is_clear[term.operand]) continue;
      if (const auto* dense = std::get_if<DenseWeight>(&term.weight)) {
        count += dense->rows * elements_of(circuit, term.operand);
      } else if (const auto* sparse = std::get_if<SparseWeight>(&term.weight)) {
        count += sparse->entries();
      }
    }
  }
  return count;
}

int maximum_bit_width(const Circuit& circuit) {
  int bits = -1;
  for (const TensorType& type : circuit.values) bits = std::max(bits, bit_width(type.interval));
  return bits;
}

std::vector<std::vector<Interval>> element_intervals(const Circuit& circuit) {
  std::vector<ElementIntervals> known(circuit.values.size());
  for (const Node& node : circuit.nodes) {
    std::visit(Overloaded{
                   [&](const Input& input) {
                     const TensorType& type = circuit.values[input.result];
                     known[input.result].assign(
                         static_cast<std::size_t>(number_of_elements(type.shape)), type.interval);
                   },
                   [&](const Linear& linear) {
                     known[linear.result] = linear_intervals(circuit, node, linear, known);
                   },
                   [&](const Lut& lut) {
                     for (std::size_t t = 0; t < lut.tables.size(); ++t) {
                       known[lut.results[t]] = table_intervals(lut.tables[t], known[lut.operand]);
                     }
                   },
                   [](const Output&) {},
               },
               node.op);
  }
  return known;
}

std::vector<Interval> guaranteed_intervals(const Circuit& circuit) {
  const std::vector<ElementIntervals> known = element_intervals(circuit);
  std::vector<Interval> result(circuit.values.size());
  for (std::size_t v = 0; v < known.size(); ++v) {
    if (known[v].empty()) continue;
    result[v] = known[v].front();
    for (Interval interval : known[v]) result[v] = hull(result[v], interval);
  }
  return result;
}

std::vector<std::string> constant_outputs(const Circuit& circuit) {
  const std::vector<ElementIntervals> known = element_intervals(circuit);
  std::vector<std::string> names;
  for (const Node* node : output_nodes(circuit)) {
    const ElementIntervals& elements = known[std::get<Output>(node->op).operand];
    if (std::ranges::all_of(elements, [](Interval i) { return i.lower == i.upper; }))
      names.push_back(node->name);
  }
  return names;
}

void apply_weight(const Weight& weight, const std::int64_t* x, std::int64_t x_elements,
                  std::int64_t* y, std::int64_t y_elements) {
  std::visit(Overloaded{
                 [&](const DenseWeight& w) {
                   for (std::int64_t block = 0; block < x_elements / w.columns; ++block) {
                     for (std::int64_t row = 0; row < w.rows; ++row) {
                       std::int64_t sum = 0;
                       for (std::int64_t c = 0; c < w.columns; ++c) {
                         sum += w.data[static_cast<std::size_t>(row * w.columns + c)] *
                                x[block * w.columns + c];
                       }
                       y[block * w.rows + row] += sum;
                     }
                   }
                 },
                 [&](const SparseWeight& w) {
                   for (std::int64_t row = 0; row < y_elements; ++row) {
                     w.row(row).for_each([&](std::int64_t column, std::int64_t value) {
                       y[row] += value * x[column];
                     });
                   }
                 },
                 [&](const ScaleWeight& w) {
                   for (std::int64_t i = 0; i < y_elements; ++i) y[i] += w.factor * x[i];
                 },
             },
             weight);
}

}  // namespace torusml
