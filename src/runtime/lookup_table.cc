#include "runtime/lookup_table.h"

#include <algorithm>
#include <cmath>

#include "plan/client_spec.h"

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

}  // namespace

TorusTable make_torus_table(const Table& table, const TensorPlan& operand, const TensorPlan& result,
                            std::size_t table_size) {
  TorusTable torus{table_size,
                   std::vector<Torus>(static_cast<std::size_t>(table.rows) * table_size), &table};
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

std::size_t table_size(const Plan& plan, const LookupPlan& lookup) {
  return std::size_t{plan.parameters.polynomial_size.value} << lookup.extension_log2;
}

Torus lookup_offset(std::size_t table_size) {
  constexpr Torus kQuarter = Torus{1} << 62;
  return kQuarter - kQuarter / table_size;
}

std::vector<Torus> linear_constants(const Circuit& circuit, const Linear& linear,
                                    const Plan& plan) {
  const auto elements =
      static_cast<std::size_t>(number_of_elements(circuit.values[linear.result].shape));
  const TensorPlan& result = plan.tensors[linear.result];
  std::vector<long double> units(elements, -static_cast<long double>(result.center));
  for (std::size_t i = 0; i < linear.bias.size(); ++i)
    units[i] += static_cast<long double>(linear.bias[i]);
  for (const LinearTerm& term : linear.terms) {
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
