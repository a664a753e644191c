#include "plan/parameter_request.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <map>

#include "circuit/norms.h"
#include "parameters/wide_lookups.h"
#include "plan/torus_scales.h"

namespace torusml {
namespace {

// Borders between values lie on entries of a table where one integer is 2^-m of the torus and takes
// an even number of entries or a multiple of them; otherwise up to half an entry off. Centres are
// integers or halves of them.
bool borders_meet_entries(double scale) {
  int exponent = 0;
  return std::frexp(scale, &exponent) == 0.5;
}

// Of the differences between a table's entries and its least.
std::uint32_t result_bits(const Circuit& circuit, const Reader& reader) {
  std::uint32_t bits = 1;
  for (const Table& table : std::get<Lut>(circuit.nodes[reader.node].op).tables) {
    const auto [least, most] = std::ranges::minmax(table.entries);
    const std::uint64_t difference =
        static_cast<std::uint64_t>(most) - static_cast<std::uint64_t>(least);
    bits = std::max(bits, static_cast<std::uint32_t>(std::bit_width(difference)));
  }
  return bits;
}

// Results of wide lookups are sums of digits; before the choice of at most so many.
std::map<std::size_t, double> most_digits(const Circuit& circuit,
                                          const std::vector<Reader>& readers) {
  std::map<std::size_t, double> digits;
  for (const Reader& reader : readers) {
    if (!may_be_wide(reader)) continue;
    double& most = digits[reader.node];
    for (const WideShape& shape :
         wide_shapes({.index_bits = 1, .result_bits = result_bits(circuit, reader)}))
      most = std::max<double>(most, shape.digit_count);
  }
  return digits;
}

// box: the torus between two values.
void allow_wide(const Circuit& circuit, const Reader& reader, double box,
                NoiseConstraint& constraint) {
  const auto index_bits = static_cast<std::uint32_t>(-std::ilogb(box) - 1);
  const std::uint32_t bits = result_bits(circuit, reader);
  if (index_bits > kMostIndexBits || bits > kMostResultBits) return;
  constraint.index_bits = index_bits;
  constraint.result_bits = bits;
}

NoiseConstraint make_constraint(const Circuit& circuit, const Reader& reader, const Scales& scales,
                                double kappa, bool may_use_wide) {
  NoiseConstraint constraint;
  constraint.name = circuit.nodes[reader.node].name;
  constraint.is_lookup = reader.is_lookup;
  if (reader.is_lookup) {
    constraint.lookup_count = reader.count;
    constraint.tables = reader.tables;
  }
  const double exact_scale = scales.exact.at(reader.node);
  const NoiseLimit limit = noise_limit(reader, scales, kappa);
  constraint.limit_sigma = limit.sigma;
  if (limit.is_exact) {
    constraint.values = is_odd(reader, may_use_wide) ? reader.odd_half : reader.values;
    constraint.table_step_weight =
        reader.is_lookup && !borders_meet_entries(exact_scale) ? 1 / kappa : 0;
  }
  if (may_use_wide && may_be_wide(reader)) allow_wide(circuit, reader, exact_scale, constraint);
  return constraint;
}

}  // namespace

ParameterRequest make_parameter_request(const Circuit& circuit, const PlanOptions& options,
                                        const std::vector<Reader>& readers, double kappa,
                                        bool may_use_wide) {
  const Scales scales = scales_by_policy(readers, kappa, may_use_wide);
  const std::vector<NoiseNorms> norms =
      may_use_wide ? noise_norms(circuit, most_digits(circuit, readers)) : noise_norms(circuit);
  std::map<std::size_t, std::size_t> reader_of;  // by node
  for (std::size_t r = 0; r < readers.size(); ++r) reader_of[readers[r].node] = r;

  ParameterRequest request;
  request.security_bits = options.security_bits;
  request.cost_table = options.cost_table;
  request.linear_multiplications = static_cast<double>(linear_multiplications(circuit));
  for (const Reader& reader : readers) {
    NoiseConstraint constraint = make_constraint(circuit, reader, scales, kappa, may_use_wide);
    const NoiseNorms& operand = norms[reader.operand];
    constraint.fresh_norm2 = operand.fresh;
    constraint.bootstrap_norm2 = operand.bootstrap;
    for (const auto& [node, norm2] : operand.by_lookup)
      constraint.sources.push_back({reader_of.at(node), norm2});
    request.constraints.push_back(std::move(constraint));
  }
  return request;
}

}  // namespace torusml
