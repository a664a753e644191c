#include "lowering/tables.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "torusml/error.h"

namespace torusml {
namespace {

// Numbers evaluated at a time: bounds the memory of wide accumulators of many
// elements.
constexpr std::int64_t kNumbersAtOnce = std::int64_t{1} << 20;

// As evaluate_tail, but values may be non-finite.
std::vector<double> run(const FloatGraph& graph, const ElementwiseTail& tail, FloatTensor root) {
  std::map<std::string, FloatTensor> values;
  values[tail.root] = std::move(root);
  for (const FloatNode* node : tail.nodes) {
    std::vector<const FloatTensor*> operands;
    for (const std::string& name : node->inputs) {
      if (name.empty()) {
        operands.push_back(nullptr);
        continue;
      }
      const auto value = values.find(name);
      operands.push_back(value != values.end() ? &value->second : &graph.constants.at(name));
    }
    FloatTensor result = std::move(evaluate_node(*node, operands).front());
    values[node->outputs.front()] = std::move(result);
  }
  return std::move(values.at(tail.tensor).values.data);
}

}  // namespace

// Row-major: elements x domain.
std::vector<double> TableBuilder::evaluate(const ElementwiseTail& tail) const {
  const auto elements = static_cast<std::size_t>(number_of_elements(shape_));
  const auto size = static_cast<std::int64_t>(domain_.size());
  const std::int64_t at_once =
      std::max<std::int64_t>(1, kNumbersAtOnce / static_cast<std::int64_t>(elements));
  std::vector<double> rows(elements * static_cast<std::size_t>(size));
  for (std::int64_t first = 0; first < size; first += at_once) {
    Tensor<double> integers{shape_, {}};
    integers.shape[0] = std::min(at_once, size - first);
    for (std::int64_t v = 0; v < integers.shape[0]; ++v) {
      integers.data.insert(integers.data.end(), elements,
                           static_cast<double>(domain_.lower + first + v));
    }
    const std::vector<double> floats = run(graph_, tail, to_float_(integers));
    if (floats.size() != integers.data.size()) {
      throw Error(ErrorCode::not_supported,
                  fmt::format("a table of {} results for {} accumulators", floats.size(),
                              integers.data.size()),
                  fmt::format("tensor '{}'", tail.tensor));
    }
    for (std::size_t i = 0; i < floats.size(); ++i) {
      rows[i % elements * static_cast<std::size_t>(size) + static_cast<std::size_t>(first) +
           i / elements] = floats[i];
    }
  }
  return rows;
}

void TableBuilder::hold_last_finite(std::vector<double>& rows, const std::string& tensor) const {
  const auto size = static_cast<std::int64_t>(domain_.size());
  for (std::size_t e = 0; e < calibrated_.lower.size(); ++e) {
    double* row = rows.data() + static_cast<std::int64_t>(e) * size;
    const auto within = [&](double v) {
      return std::clamp(static_cast<std::int64_t>(v), domain_.lower, domain_.upper) - domain_.lower;
    };
    const std::int64_t first = within(calibrated_.lower[e]), last = within(calibrated_.upper[e]);
    for (std::int64_t v = first; v <= last; ++v) {
      if (std::isfinite(row[v])) continue;
      throw Error(
          ErrorCode::non_finite_value,
          fmt::format("element {} is {} where its accumulator is {}", e, row[v], domain_.lower + v),
          fmt::format("tensor '{}'", tensor));
    }
    for (std::int64_t v = first - 1; v >= 0; --v) {
      if (!std::isfinite(row[v])) row[v] = row[v + 1];
    }
    for (std::int64_t v = last + 1; v < size; ++v) {
      if (!std::isfinite(row[v])) row[v] = row[v - 1];
    }
  }
}

Table TableBuilder::build(const ElementwiseTail& tail, const UniformQuantizer& quantizer) const {
  std::vector<double> floats = evaluate(tail);
  hold_last_finite(floats, tail.tensor);
  const std::vector<std::int64_t> entries = quantizer.quantize(floats);

  Table table;
  table.domain = domain_;
  table.rows = 0;
  const auto size = static_cast<std::ptrdiff_t>(domain_.size());
  std::map<std::vector<std::int64_t>, std::uint32_t> known;
  for (auto row = entries.begin(); row != entries.end(); row += size) {
    const auto [place, is_new] =
        known.emplace(std::vector(row, row + size), static_cast<std::uint32_t>(table.rows));
    if (is_new) {
      table.entries.insert(table.entries.end(), row, row + size);
      ++table.rows;
    }
    table.row_of_element.push_back(place->second);
  }
  if (table.rows == 1) table.row_of_element.clear();
  return table;
}

bool is_affine_table(const Table& table) {
  const auto size = static_cast<std::int64_t>(table.domain.size());
  for (std::int64_t row = 0; row < table.rows; ++row) {
    const std::int64_t* entries = table.entries.data() + row * size;
    for (std::int64_t i = 2; i < size; ++i) {
      if (entries[i] - entries[i - 1] != entries[1] - entries[0]) return false;
    }
  }
  return true;
}

bool is_identity(const Table& table) {
  if (table.rows != 1) return false;
  for (std::size_t i = 0; i < table.entries.size(); ++i) {
    if (table.entries[i] != table.domain.lower + static_cast<std::int64_t>(i)) return false;
  }
  return true;
}

}  // namespace torusml
