#include "circuit/text.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <limits>
#include <map>
#include <tuple>
#include <utility>

#include "circuit/scanner.h"
#include "torusml/error.h"

namespace torusml {
namespace {

std::string interval_text(Interval interval) {
  return fmt::format("[{}, {}]", interval.lower, interval.upper);
}

std::string shape_text(const Shape& shape) {
  return fmt::format("tensor<{}>", fmt::join(shape, "x"));
}

const char* table_kind(const Table& table) {
  if (table.rows == 1) return "per-tensor";
  return static_cast<std::size_t>(table.rows) == table.row_of_element.size() ? "per-element"
                                                                             : "per-channel";
}

class Printer {
 public:
  Printer(const Circuit& circuit, const PrintOptions& options)
      : circuit_(circuit), options_(options) {}

  std::string run() {
    body_ = fmt::format("circuit {}\n", quote(circuit_.name));
    for (std::size_t i = 0; i < circuit_.nodes.size(); ++i) {
      node_ = i;
      body_ += "  ";
      std::visit([this](const auto& op) { print(op); }, circuit_.nodes[i].op);
      body_ += '\n';
    }
    return options_.constants ? body_ + "constants\n" + constants_ : body_;
  }

 private:
  const TensorType& type(ValueId value) const { return circuit_.values[value]; }
  std::string name() const { return quote(circuit_.nodes[node_].name); }

  void print(const Input& input) {
    body_ += fmt::format("%{} = input {}{} : {} {}", input.result, name(),
                         input.is_clear && options_.clear ? " clear" : "",
                         shape_text(type(input.result).shape),
                         interval_text(type(input.result).interval));
  }

  void print(const Output& output) {
    body_ += fmt::format("output {} %{}", name(), output.operand);
  }

  void print(const Linear& linear) {
    std::vector<std::string> parts;
    for (std::size_t t = 0; t < linear.terms.size(); ++t) {
      const std::string constant = fmt::format("@n{}.{}", node_, t);
      parts.push_back(
          std::visit([&](const auto& w) { return term(w, linear.terms[t].operand, constant); },
                     linear.terms[t].weight));
    }
    if (!linear.bias.empty()) {
      const std::string constant = fmt::format("@n{}.bias", node_);
      parts.push_back(constant);
      constants_ += fmt::format("  {} = vector [{}]\n", constant, fmt::join(linear.bias, ", "));
    }
    body_ += fmt::format("%{} = linear {} : {} {} {}", linear.result, fmt::join(parts, " + "),
                         shape_text(type(linear.result).shape),
                         interval_text(type(linear.result).interval), name());
  }

  std::string term(const DenseWeight& w, ValueId operand, const std::string& constant) {
    constants_ += fmt::format("  {} = dense {}x{} [{}]\n", constant, w.rows, w.columns,
                              fmt::join(w.data, ", "));
    return fmt::format("dense(%{}, {})", operand, constant);
  }

  std::string term(const SparseWeight& w, ValueId operand, const std::string& constant) {
    constants_ +=
        fmt::format("  {} = sparse {}x{} [{}] [{}] [{}] rows [{}] at [{}]\n", constant, w.rows,
                    w.columns, fmt::join(w.pattern_start, ", "), fmt::join(w.offset, ", "),
                    fmt::join(w.value, ", "), fmt::join(w.pattern, ", "), fmt::join(w.shift, ", "));
    return fmt::format("sparse(%{}, {})", operand, constant);
  }

  std::string term(const ScaleWeight& w, ValueId operand, const std::string&) {
    return fmt::format("scale(%{}, {})", operand, w.factor);
  }

  void print(const Lut& lut) {
    std::vector<std::string> results, tables, intervals;
    for (std::size_t t = 0; t < lut.tables.size(); ++t) {
      const Table& table = lut.tables[t];
      results.push_back(fmt::format("%{}", lut.results[t]));
      tables.push_back(fmt::format("@{} {}", table.name, table_kind(table)));
      intervals.push_back(interval_text(type(lut.results[t]).interval));
      constants_ += fmt::format("  @{} = table {} rows [{}]", table.name, table.rows,
                                fmt::join(table.entries, ", "));
      if (!table.row_of_element.empty())
        constants_ += fmt::format(" of [{}]", fmt::join(table.row_of_element, ", "));
      constants_ += '\n';
    }
    body_ +=
        fmt::format("{} = lut %{} tables=[{}] : {} {} -> {} {}", fmt::join(results, ", "),
                    lut.operand, fmt::join(tables, ", "), shape_text(type(lut.operand).shape),
                    interval_text(type(lut.operand).interval), fmt::join(intervals, ", "), name());
  }

  const Circuit& circuit_;
  const PrintOptions& options_;
  std::size_t node_ = 0;
  std::string body_, constants_;
};

class Parser {
 public:
  explicit Parser(std::string_view text) : scan_(text) {}

  Circuit run() {
    scan_.take("circuit");
    circuit_.name = scan_.take_string();
    while (!scan_.try_take("constants")) node();
    while (!scan_.at_end()) constant();
    if (!weights_.empty() || !biases_.empty() || !tables_.empty())
      scan_.fail("a constant is used but not given");
    verify(circuit_);
    return std::move(circuit_);
  }

 private:
  struct Place {
    std::size_t node = 0, part = 0;
  };

  ValueId value() {
    scan_.take("%");
    const std::int64_t id = scan_.take_integer();
    if (id < 0 || id >= kMaxValues) scan_.fail("a value's number is out of range");
    return static_cast<ValueId>(id);
  }

  Interval interval() {
    scan_.take("[");
    Interval result;
    result.lower = scan_.take_integer();
    scan_.take(",");
    result.upper = scan_.take_integer();
    scan_.take("]");
    return result;
  }

  Shape shape() {
    scan_.take("tensor<");
    Shape result;
    if (scan_.try_take(">")) return result;
    do {
      result.push_back(scan_.take_integer());
    } while (scan_.try_take_symbol("x"));
    scan_.take(">");
    return result;
  }

  void declare(ValueId id, TensorType type) {
    if (id != circuit_.values.size())
      scan_.fail(fmt::format("expected %{} to be defined next", circuit_.values.size()));
    circuit_.values.push_back(std::move(type));
  }

  void node() {
    if (scan_.try_take("output")) {
      std::string name = scan_.take_string();
      circuit_.nodes.push_back({std::move(name), Output{value()}});
      return;
    }
    std::vector<ValueId> results;
    do {
      results.push_back(value());
    } while (scan_.try_take(","));
    scan_.take("=");
    if (results.size() == 1 && scan_.try_take("input")) return input(results[0]);
    if (results.size() == 1 && scan_.try_take("linear")) return linear(results[0]);
    scan_.take("lut");
    lut(std::move(results));
  }

  void input(ValueId result) {
    std::string name = scan_.take_string();
    const bool is_clear = scan_.try_take("clear");
    scan_.take(":");
    Shape its_shape = shape();
    declare(result, {std::move(its_shape), interval()});
    circuit_.nodes.push_back({std::move(name), Input{result, is_clear}});
  }

  std::string constant_name() {
    scan_.take("@");
    return scan_.take_name();
  }

  void linear(ValueId result) {
    Linear op;
    op.result = result;
    const std::size_t index = circuit_.nodes.size();
    if (!scan_.try_take(":")) {
      do {
        term(op, index);
      } while (scan_.try_take("+"));
      scan_.take(":");
    }
    Shape its_shape = shape();
    declare(result, {std::move(its_shape), interval()});
    circuit_.nodes.push_back({scan_.take_string(), std::move(op)});
  }

  void term(Linear& op, std::size_t node) {
    if (scan_.try_take("scale(")) {
      const ValueId operand = value();
      scan_.take(",");
      op.terms.push_back({operand, ScaleWeight{scan_.take_integer()}});
      scan_.take(")");
      return;
    }
    const bool is_dense = scan_.try_take("dense(");
    if (!is_dense && !scan_.try_take("sparse(")) {
      if (!biases_.emplace(constant_name(), node).second) scan_.fail("a constant is used twice");
      return;
    }
    const ValueId operand = value();
    scan_.take(",");
    if (!weights_.emplace(constant_name(), Place{node, op.terms.size()}).second)
      scan_.fail("a constant is used twice");
    scan_.take(")");
    op.terms.push_back({operand, is_dense ? Weight(DenseWeight{}) : Weight(SparseWeight{})});
  }

  void lut(std::vector<ValueId> results) {
    Lut op;
    op.operand = value();
    const std::size_t index = circuit_.nodes.size();
    scan_.take("tables=[");
    do {
      Table table;
      table.name = constant_name();
      if (!tables_.emplace(table.name, Place{index, op.tables.size()}).second)
        scan_.fail("a table is used twice");
      if (!scan_.try_take("per-tensor") && !scan_.try_take("per-channel"))
        scan_.take("per-element");
      op.tables.push_back(std::move(table));
    } while (scan_.try_take(","));
    scan_.take("]");
    scan_.take(":");
    const Shape its_shape = shape();
    const Interval domain = interval();
    for (Table& table : op.tables) table.domain = domain;
    scan_.take("->");
    for (std::size_t r = 0; r < results.size(); ++r) {
      if (r != 0) scan_.take(",");
      declare(results[r], {its_shape, interval()});
    }
    op.results = std::move(results);
    circuit_.nodes.push_back({scan_.take_string(), std::move(op)});
  }

  void constant() {
    const std::string name = constant_name();
    scan_.take("=");
    if (scan_.try_take("vector")) {
      const auto found = biases_.find(name);
      if (found == biases_.end()) scan_.fail(fmt::format("@{} is given but not used", name));
      std::get<Linear>(circuit_.nodes[found->second].op).bias = scan_.take_integers();
      biases_.erase(found);
    } else if (scan_.try_take("table")) {
      const auto found = tables_.find(name);
      if (found == tables_.end()) scan_.fail(fmt::format("@{} is given but not used", name));
      read_table(std::get<Lut>(circuit_.nodes[found->second.node].op).tables[found->second.part]);
      tables_.erase(found);
    } else {
      const auto found = weights_.find(name);
      if (found == weights_.end()) scan_.fail(fmt::format("@{} is given but not used", name));
      read_weight(
          std::get<Linear>(circuit_.nodes[found->second.node].op).terms[found->second.part].weight);
      weights_.erase(found);
    }
  }

  void read_table(Table& table) {
    table.rows = scan_.take_integer();
    scan_.take("rows");
    table.entries = scan_.take_integers();
    if (!scan_.try_take("of")) return;
    for (std::int64_t row : scan_.take_integers()) {
      if (row < 0 || row >= table.rows) scan_.fail("a table's row is out of range");
      table.row_of_element.push_back(static_cast<std::uint32_t>(row));
    }
  }

  std::pair<std::int64_t, std::int64_t> matrix_size() {
    const std::int64_t rows = scan_.take_integer();
    if (!scan_.try_take_symbol("x")) scan_.fail("expected a size, rows x columns");
    return {rows, scan_.take_integer()};
  }

  void read_weight(Weight& weight) {
    if (auto* dense = std::get_if<DenseWeight>(&weight)) {
      scan_.take("dense");
      std::tie(dense->rows, dense->columns) = matrix_size();
      dense->data = scan_.take_integers();
      return;
    }
    auto& sparse = std::get<SparseWeight>(weight);
    scan_.take("sparse");
    std::tie(sparse.rows, sparse.columns) = matrix_size();
    sparse.pattern_start = scan_.take_integers();
    sparse.offset = scan_.take_integers();
    sparse.value = scan_.take_integers();
    scan_.take("rows");
    for (std::int64_t pattern : scan_.take_integers()) {
      if (pattern < 0 || pattern > std::numeric_limits<std::uint32_t>::max())
        scan_.fail("a sparse weight has a row of no pattern");
      sparse.pattern.push_back(static_cast<std::uint32_t>(pattern));
    }
    scan_.take("at");
    sparse.shift = scan_.take_integers();
  }

  static constexpr std::int64_t kMaxValues = std::int64_t{1} << 24;

  Scanner scan_;
  Circuit circuit_;
  std::map<std::string, Place> weights_, tables_;
  std::map<std::string, std::size_t> biases_;
};

}  // namespace

std::string quote(std::string_view text) {
  std::string result = "\"";
  for (char c : text) {
    if (c == '"' || c == '\\') result += '\\';
    if (c == '\n')
      result += "\\n";
    else if (c == '\t')
      result += "\\t";
    else
      result += c;
  }
  return result + '"';
}

std::string print(const Circuit& circuit, const PrintOptions& options) {
  return Printer(circuit, options).run();
}

Circuit parse_circuit(std::string_view text) { return Parser(text).run(); }

}  // namespace torusml
