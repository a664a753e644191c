#include "runtime/integer_nodes.h"

#include <algorithm>

namespace torusml {

void add_term(const LinearTerm& term, const SampleIntegers& values,
              std::vector<std::int64_t>& sums) {
  const std::vector<std::int64_t>& x = values[term.operand];
  apply_weight(term.weight, x.data(), static_cast<std::int64_t>(x.size()), sums.data(),
               static_cast<std::int64_t>(sums.size()));
}

std::vector<std::int64_t> linear_sums(const Linear& linear, const SampleIntegers& values,
                                      std::size_t elements) {
  std::vector<std::int64_t> sums =
      linear.bias.empty() ? std::vector<std::int64_t>(elements, 0) : linear.bias;
  for (const LinearTerm& term : linear.terms) add_term(term, values, sums);
  return sums;
}

std::vector<std::int64_t> table_entries(const Table& table,
                                        const std::vector<std::int64_t>& operand) {
  std::vector<std::int64_t> entries(operand.size());
  for (std::size_t i = 0; i < operand.size(); ++i) {
    entries[i] = table.at(static_cast<std::int64_t>(i),
                          std::clamp(operand[i], table.domain.lower, table.domain.upper));
  }
  return entries;
}

}  // namespace torusml
