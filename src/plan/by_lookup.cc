#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "parameters/catalogue.h"
#include "parameters/cost.h"
#include "parameters/noise.h"
#include "plan/plan.h"
#include "torusml/error.h"

namespace torusml {
namespace {

// By the plan's cost table, of one sample.
double lookup_cost(const Circuit& circuit, const Plan& plan, std::size_t node,
                   const LookupPlan& lookup) {
  const Lut& lut = std::get<Lut>(circuit.nodes[node].op);
  const TfheParameters& p = plan.key_set_of(lookup).parameters;
  const CostTable& table = plan.options.cost_table;
  const auto values = static_cast<double>(number_of_elements(circuit.values[lut.operand].shape));
  const std::uint64_t tables = lut.tables.size();
  return values * (lookup.wide.index_bits != 0 ? wide_lookup_ms(p, lookup.wide, table, tables)
                                               : lookup_ms(p, lookup.rotation, tables, table));
}

}  // namespace

std::map<std::size_t, double> cost_by_lookup(const Circuit& circuit, const Plan& plan) {
  std::map<std::size_t, double> costs;
  const auto products = static_cast<double>(linear_multiplications(circuit));
  double total = linear_ms(plan.key_sets[0].parameters, products, plan.options.cost_table);
  for (const auto& [node, lookup] : plan.lookups)
    total += costs[node] = lookup_cost(circuit, plan, node, lookup);
  for (auto& [node, cost] : costs) cost *= plan.cost_ms_per_core / total;
  return costs;
}

double linear_cost(const Circuit& circuit, const Plan& plan) {
  double rest = plan.cost_ms_per_core;
  for (const auto& [node, cost] : cost_by_lookup(circuit, plan)) rest -= cost;
  return std::max(rest, 0.0);
}

double relative_sigma(const Circuit& circuit, const Plan& plan, std::size_t node) {
  const auto* lut = std::get_if<Lut>(&circuit.nodes[node].op);
  const ValueId operand = lut ? lut->operand : std::get<Output>(circuit.nodes[node].op).operand;
  const Variance noise = lut ? plan.lookups.at(node).noise : plan.outputs.at(node).noise;
  const auto width = static_cast<double>(circuit.values[operand].interval.size() - 1);
  return width == 0 ? 0 : std::sqrt(noise.value) / plan.tensors[operand].scale / width;
}

std::optional<double> effective_bits(const Circuit& circuit, const Plan& plan, std::size_t node) {
  const double sigma = relative_sigma(circuit, plan, node);
  return sigma == 0 ? std::nullopt : std::optional(-std::log2(sigma));
}

double tolerance_at(std::uint32_t polynomial_size) {
  constexpr double kRoomForFastSets = 1.25;
  const double guards = 2 * kappa(0x1p-40);
  double least = HUGE_VAL;
  std::set<std::uint32_t> degrees;
  for (const TfheParameters& p : catalogue()) {
    degrees.insert(p.polynomial_size.value);
    if (p.polynomial_size.value != polynomial_size) continue;
    const double sigma = std::sqrt(
        keyswitch_variance(p).value +
        modulus_switch_variance(p.small_dimension, 2 * std::uint64_t{polynomial_size}).value);
    if (guards * sigma < 0.5) least = std::min(least, sigma / (0.5 - guards * sigma));
  }
  if (least == HUGE_VAL) {
    throw Error(ErrorCode::invalid_argument,
                fmt::format("no published key set has polynomials of degree {}", polynomial_size),
                "", fmt::format("one of {}", fmt::join(degrees, ", ")));
  }
  return kRoomForFastSets * least;
}

}  // namespace torusml
