#include "lowering/tables.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <utility>

#include "torusml/error.h"

namespace torusml {
namespace {

// Numbers evaluated at a time: bounds the memory of wide accumulators of many
// elements.
constexpr std::int64_t kNumbersAtOnce = std::int64_t{1} << 20;
// In the place of an entry whose float is not finite.
constexpr std::int64_t kNotFinite = std::numeric_limits<std::int64_t>::min();

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

// Elements whose entries were equal so far share a row; one whose next entry differs gets a row of
// its own, or that of elements which left with the same entry.
class RowsByElement {
 public:
  RowsByElement(std::size_t elements, std::size_t size)
      : row_of_(elements), rows_(1, std::vector<std::int64_t>(size)) {}

  // Entry v of all elements; call it in the order of v.
  void add(std::size_t v, const std::int64_t* entries) {
    std::vector<bool> is_set(rows_.size());
    std::map<std::pair<std::uint32_t, std::int64_t>, std::uint32_t> split;
    for (std::size_t e = 0; e < row_of_.size(); ++e) {
      std::uint32_t& row = row_of_[e];
      if (!is_set[row]) {
        rows_[row][v] = entries[e];
        is_set[row] = true;
      } else if (rows_[row][v] != entries[e]) {
        const auto [place, is_new] =
            split.emplace(std::pair(row, entries[e]), static_cast<std::uint32_t>(rows_.size()));
        if (is_new) {
          rows_.push_back(rows_[row]);
          rows_.back()[v] = entries[e];
          is_set.push_back(true);
        }
        row = place->second;
      }
    }
  }

  const std::vector<std::int64_t>& row(std::size_t element) const {
    return rows_[row_of_[element]];
  }
  std::uint32_t index(std::size_t element) const { return row_of_[element]; }

 private:
  std::vector<std::uint32_t> row_of_;  // by element
  std::vector<std::vector<std::int64_t>> rows_;
};

}  // namespace

// Calls add(first, floats) with the results of integers first, first + 1, ... of the domain,
// counted from its lower end: all elements of one integer, then of the next.
void TableBuilder::evaluate(const ElementwiseTail& tail, const Add& add) const {
  const auto elements = static_cast<std::size_t>(number_of_elements(shape_));
  const auto size = static_cast<std::int64_t>(domain_.size());
  const std::int64_t at_once =
      std::max<std::int64_t>(1, kNumbersAtOnce / static_cast<std::int64_t>(elements));
  for (std::int64_t first = 0; first < size; first += at_once) {
    Tensor<double> integers{shape_, {}};
    integers.shape[0] = std::min(at_once, size - first);
    for (std::int64_t v = 0; v < integers.shape[0]; ++v) {
      integers.data.insert(integers.data.end(), elements,
                           static_cast<double>(domain_.lower + first + v));
    }
    std::vector<double> floats = run(graph_, tail, to_float_(integers));
    if (floats.size() != integers.data.size()) {
      throw Error(ErrorCode::not_supported,
                  fmt::format("a table of {} results for {} accumulators", floats.size(),
                              integers.data.size()),
                  fmt::format("tensor '{}'", tail.tensor));
    }
    add(static_cast<std::size_t>(first), floats);
  }
}

std::vector<std::int64_t> TableBuilder::held_last_finite(std::vector<std::int64_t> row,
                                                         std::size_t element,
                                                         const std::string& tensor) const {
  const auto size = static_cast<std::int64_t>(domain_.size());
  const auto within = [&](double v) {
    return std::clamp(static_cast<std::int64_t>(v), domain_.lower, domain_.upper) - domain_.lower;
  };
  const auto at = [&](std::int64_t v) -> std::int64_t& { return row[static_cast<std::size_t>(v)]; };
  const std::int64_t first = within(calibrated_.lower[element]),
                     last = within(calibrated_.upper[element]);
  for (std::int64_t v = first; v <= last; ++v) {
    if (at(v) != kNotFinite) continue;
    throw Error(ErrorCode::non_finite_value,
                fmt::format("element {} is not finite where its accumulator is {}", element,
                            domain_.lower + v),
                fmt::format("tensor '{}'", tensor));
  }
  for (std::int64_t v = first - 1; v >= 0; --v) {
    if (at(v) == kNotFinite) at(v) = at(v + 1);
  }
  for (std::int64_t v = last + 1; v < size; ++v) {
    if (at(v) == kNotFinite) at(v) = at(v - 1);
  }
  return row;
}

Table TableBuilder::build(const ElementwiseTail& tail, const UniformQuantizer& quantizer) const {
  const auto elements = static_cast<std::size_t>(number_of_elements(shape_));
  RowsByElement rows(elements, domain_.size());
  evaluate(tail, [&](std::size_t first, std::vector<double>& floats) {
    std::vector<bool> is_finite(floats.size());
    for (std::size_t i = 0; i < floats.size(); ++i) {
      is_finite[i] = std::isfinite(floats[i]);
      if (!is_finite[i]) floats[i] = 0;
    }
    std::vector<std::int64_t> entries = quantizer.quantize(floats);
    for (std::size_t i = 0; i < entries.size(); ++i) {
      if (!is_finite[i]) entries[i] = kNotFinite;
    }
    for (std::size_t v = 0; v * elements < entries.size(); ++v)
      rows.add(first + v, entries.data() + v * elements);
  });

  Table table;
  table.domain = domain_;
  table.rows = 0;
  std::map<std::vector<std::int64_t>, std::uint32_t> known;
  std::map<std::uint32_t, std::uint32_t> finite_rows;  // rows that are the same for all elements
  const auto add_row = [&](const std::vector<std::int64_t>& row) {
    const auto [place, is_new] = known.emplace(row, static_cast<std::uint32_t>(table.rows));
    if (is_new) {
      table.entries.insert(table.entries.end(), row.begin(), row.end());
      ++table.rows;
    }
    return place->second;
  };
  for (std::size_t e = 0; e < elements; ++e) {
    const auto found = finite_rows.find(rows.index(e));
    if (found != finite_rows.end()) {
      table.row_of_element.push_back(found->second);
      continue;
    }
    const bool is_finite = std::ranges::find(rows.row(e), kNotFinite) == rows.row(e).end();
    table.row_of_element.push_back(
        add_row(is_finite ? rows.row(e) : held_last_finite(rows.row(e), e, tail.tensor)));
    if (is_finite) finite_rows.emplace(rows.index(e), table.row_of_element.back());
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
