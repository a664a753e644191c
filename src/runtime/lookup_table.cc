#include "runtime/lookup_table.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "circuit/step.h"
#include "plan/client_spec.h"
#include "torusml/error.h"

namespace torusml {
namespace {

// Sum over columns of the weights, by row of the result: how a constant shift of the operand
// arrives.
std::vector<long double> row_sums(const Weight& weight, std::int64_t operands,
                                  std::int64_t results) {
  const std::vector<std::int64_t> ones(static_cast<std::size_t>(operands), 1);
  std::vector<std::int64_t> sums(static_cast<std::size_t>(results), 0);
  apply_weight(weight, ones.data(), operands, sums.data(), results);
  return {sums.begin(), sums.end()};
}

std::int64_t wide_entry(const Table& table, std::int64_t row, Interval interval,
                        const WideShape& shape, std::size_t index) {
  const std::int64_t value = wide_first_value(interval, shape) + static_cast<std::int64_t>(index);
  const std::int64_t inside = std::clamp(value, table.domain.lower, table.domain.upper);
  const auto domain = static_cast<std::int64_t>(table.domain.size());
  return table.entries[static_cast<std::size_t>(row * domain + inside - table.domain.lower)];
}

}  // namespace

TorusTable make_torus_table(const Table& table, const TensorPlan& operand, const TensorPlan& result,
                            std::size_t table_size) {
  TorusTable torus{table_size,
                   std::vector<Torus>(static_cast<std::size_t>(table.rows) * table_size),
                   &table,
                   {}};
  const std::size_t domain = table.domain.size();
  for (std::size_t i = 0; i < table_size; ++i) {
    const double phase =
        (static_cast<double>(i) + 0.5) / (2.0 * static_cast<double>(table_size)) - 0.25;
    const double value = std::clamp(std::round(phase / operand.scale + operand.center),
                                    static_cast<double>(table.domain.lower),
                                    static_cast<double>(table.domain.upper));
    const auto entry =
        static_cast<std::size_t>(static_cast<std::int64_t>(value) - table.domain.lower);
    for (std::size_t row = 0; row < static_cast<std::size_t>(table.rows); ++row) {
      torus.words[row * table_size + i] =
          encode(table.entries[row * domain + entry], result.scale, result.center);
    }
  }
  return torus;
}

TorusTable make_odd_table(const Table& table, const TensorPlan& operand, const TensorPlan& result,
                          std::size_t table_size) {
  TorusTable torus{table_size, {}, &table, {}};
  for (std::size_t row = 0; row < static_cast<std::size_t>(table.rows); ++row) {
    const std::optional<Step> step = as_step(table, row);
    if (!step) {
      throw Error(ErrorCode::invalid_circuit, fmt::format("row {} is no step", row),
                  fmt::format("table '{}'", table.name), "compile the model again");
    }
    const auto below = static_cast<long double>(step->below),
               above = static_cast<long double>(step->above);
    const Torus half = encode_units((above - below) / 2, result.scale);
    torus.constants.push_back(
        encode_units((above + below) / 2 - static_cast<long double>(result.center), result.scale));
    const double border = operand.scale * (static_cast<double>(step->first) - 0.5 - operand.center);
    for (std::size_t i = 0; i < table_size; ++i) {
      const double phase =
          (static_cast<double>(i) + 0.5) / (2.0 * static_cast<double>(table_size)) - 0.25;
      const double beyond = phase - border - std::floor(phase - border);
      torus.words.push_back(beyond < 0.5 ? half : 0 - half);
    }
  }
  return torus;
}

std::vector<TorusTable> make_torus_tables(const Lut& lut, const Plan& plan,
                                          const LookupPlan& lookup) {
  const std::size_t size = table_size(plan, lookup);
  const auto make = lookup.is_odd ? make_odd_table : make_torus_table;
  std::vector<TorusTable> tables;
  for (std::size_t t = 0; t < lut.tables.size(); ++t) {
    tables.push_back(
        make(lut.tables[t], plan.tensors[lut.operand], plan.tensors[lut.results[t]], size));
  }
  return tables;
}

std::size_t table_size(const Plan& plan, const LookupPlan& lookup) {
  return lookup.rotation.table_size(plan.key_set_of(lookup).parameters.polynomial_size);
}

Torus lookup_offset(std::size_t table_size) {
  constexpr Torus kQuarter = Torus{1} << 62;
  return kQuarter - kQuarter / table_size;
}

std::int64_t wide_first_value(Interval interval, const WideShape& shape) {
  const std::int64_t spare =
      (std::int64_t{1} << shape.index_bits) - static_cast<std::int64_t>(interval.size());
  return interval.lower - spare / 2;
}

Torus wide_offset(Interval interval, const TensorPlan& operand, const WideShape& shape) {
  const auto first = static_cast<long double>(wide_first_value(interval, shape));
  return encode_units(0.5L + static_cast<long double>(operand.center) - first, operand.scale);
}

std::vector<WideTable> make_wide_tables(const Table& table, Interval interval,
                                        const TensorPlan& result, const WideShape& shape,
                                        PolynomialSize size) {
  const std::int64_t least = *std::ranges::min_element(table.entries);
  std::vector<std::vector<Torus>> words(shape.digit_count);
  for (std::uint32_t s = 0; s < shape.digit_count; ++s) {
    for (std::int64_t d = 0; d < std::int64_t{1} << shape.digit_bits; ++d) {
      const auto value =
          std::ldexp(static_cast<long double>(d), static_cast<int>(s * shape.digit_bits));
      words[s].push_back(s == 0 ? encode(least + d, result.scale, result.center)
                                : encode_units(value, result.scale));
    }
  }
  std::vector<WideTable> tables;
  std::vector<std::uint64_t> entries(std::size_t{1} << shape.index_bits);
  for (std::int64_t row = 0; row < table.rows; ++row) {
    for (std::size_t i = 0; i < entries.size(); ++i)
      entries[i] = static_cast<std::uint64_t>(wide_entry(table, row, interval, shape, i) - least);
    tables.emplace_back(size, shape, entries, words);
  }
  return tables;
}

TorusTable make_wide_torus_table(const Table& table, Interval interval, const TensorPlan& result,
                                 const WideShape& shape) {
  TorusTable torus{std::size_t{1} << shape.index_bits, {}, &table, {}};
  for (std::int64_t row = 0; row < table.rows; ++row) {
    for (std::size_t i = 0; i < torus.table_size; ++i) {
      torus.words.push_back(
          encode(wide_entry(table, row, interval, shape, i), result.scale, result.center));
    }
  }
  return torus;
}

std::vector<Torus> linear_constants(const Circuit& circuit, const Linear& linear, const Plan& plan,
                                    const std::vector<bool>& is_clear) {
  const auto elements =
      static_cast<std::size_t>(number_of_elements(circuit.values[linear.result].shape));
  const TensorPlan& result = plan.tensors[linear.result];
  std::vector<long double> units(elements, -static_cast<long double>(result.center));
  for (std::size_t i = 0; i < linear.bias.size(); ++i)
    units[i] += static_cast<long double>(linear.bias[i]);
  for (const LinearTerm& term : linear.terms) {
    if (is_clear[term.operand]) continue;
    const std::int64_t operands = number_of_elements(circuit.values[term.operand].shape);
    const auto sums = row_sums(term.weight, operands, static_cast<std::int64_t>(elements));
    for (std::size_t i = 0; i < elements; ++i) {
      units[i] += sums[i] * static_cast<long double>(plan.tensors[term.operand].center);
    }
  }
  std::vector<Torus> words(elements);
  for (std::size_t i = 0; i < elements; ++i) words[i] = encode_units(units[i], result.scale);
  return words;
}

}  // namespace torusml
