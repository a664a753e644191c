#include "parameters/cost.h"

#include <algorithm>
#include <cmath>

namespace torusml {
namespace {

constexpr double kNsPerMs = 1e6;

double ggsws_of_a_step(const TfheParameters& p) { return (1u << p.grouping_factor) - 1; }
double polynomials(const TfheParameters& p) { return p.glwe_dimension.value + 1; }
double steps(const TfheParameters& p) {
  return p.small_dimension.value / static_cast<double>(p.grouping_factor);
}
double keyswitch_rows(const TfheParameters& p) {
  return (1.0 * p.big_dimension().value - p.small_dimension.value) * p.keyswitch.level_count;
}
// A key for each automorphism of the trace, and with circuit bootstrapping one for the secret's
// square.
double trace_rows(const TfheParameters& p) {
  const double squares = p.has_circuit_bootstrap() ? 1 : 0;
  return (std::log2(p.polynomial_size.value) + squares) * p.trace.level_count;
}

}  // namespace

double shard_step_ns(const TfheParameters& p, const CostTable& table) {
  const PolynomialCost& cost = table.at(p.polynomial_size.value);
  const double rows = polynomials(p) * p.bootstrap.level_count;
  const double transforms = rows + polynomials(p);
  // Each digit times X^e - 1, for each GGSW, and the GGSW's matrix.
  const double products = ggsws_of_a_step(p) * rows * (1 + polynomials(p));
  const double width = p.accumulator_bits == 32 ? table.narrow_accumulator : 1;
  return width * (transforms * cost.transform_ns + products * cost.multiply_ns);
}

double expected_shards(std::uint32_t grouping_factor, std::uint32_t extension_log2) {
  const double next = std::exp2(-static_cast<double>(grouping_factor));  // P(t + 1 or more | t)
  double shards = std::exp2(extension_log2), reaches = 1, expected = 0;
  for (std::uint32_t t = 0; t < extension_log2; ++t) {
    expected += reaches * (1 - next) * shards;
    reaches *= next;
    shards /= 2;
  }
  return expected + reaches;
}

double keyswitch_ms(const TfheParameters& p, const CostTable& table) {
  return keyswitch_rows(p) * (p.small_dimension.value + 1) * table.keyswitch_ns / kNsPerMs;
}

double rotation_ms(const TfheParameters& p, std::uint32_t extension_log2, const CostTable& table) {
  const double shard_steps = steps(p) * expected_shards(p.grouping_factor, extension_log2);
  return shard_steps * shard_step_ns(p, table) / kNsPerMs;
}

double lookup_ms(const TfheParameters& p, std::uint32_t extension_log2, const CostTable& table) {
  return rotation_ms(p, extension_log2, table) + keyswitch_ms(p, table);
}

double lookup_ms(const TfheParameters& p, const RotationShape& shape, std::uint64_t tables,
                 const CostTable& table) {
  const auto turns = static_cast<double>(shape.turns(tables));
  return turns * rotation_ms(p, shape.extension_log2, table) + keyswitch_ms(p, table);
}

double wide_lookup_ms(const TfheParameters& p, const WideShape& shape, const CostTable& table,
                      std::uint64_t tables) {
  const PolynomialCost& cost = table.at(p.polynomial_size.value);
  const double cut = p.circuit_bootstrap.level_count, trace_levels = p.trace.level_count;
  const auto product_ns = [&](double rows) {
    return (rows + polynomials(p)) * cost.transform_ns + 2 * rows * cost.multiply_ns;
  };
  const double size_log2 = std::log2(p.polynomial_size.value);
  // The trace, with its permutations at about the cost of a transform; the row of the secret; the
  // transforms of both rows.
  const double level_ns = size_log2 * (product_ns(trace_levels) + cost.transform_ns) +
                          product_ns(trace_levels) + 4 * cost.transform_ns;
  const double leaves = std::max(0.0, shape.index_bits - size_log2);
  const double slots = std::exp2(std::max(0.0, size_log2 - shape.index_bits));
  const double products =
      (std::exp2(leaves) - 1 + shape.index_bits - leaves) * std::ceil(shape.digit_count / slots);
  const auto times = static_cast<double>(tables);
  const double rotations = shape.rotations() + times * shape.digit_count;
  return rotations * lookup_ms(p, 0, table) +
         (shape.index_bits * cut * level_ns + times * products * product_ns(2 * cut)) / kNsPerMs;
}

double linear_ms(const TfheParameters& p, double multiplications, const CostTable& table) {
  return multiplications * (p.big_dimension().value + 1) * table.linear_ns / kNsPerMs;
}

KeyBytes key_bytes(const TfheParameters& p) {
  if (!p.has_bootstrap()) return {};
  return {memory_key_bytes(p), wire_key_bytes(p)};
}

double bootstrap_key_bytes(const TfheParameters& p) {
  return steps(p) * ggsws_of_a_step(p) * polynomials(p) * polynomials(p) * p.bootstrap.level_count *
         p.polynomial_size.value * sizeof(double);
}

double keyswitch_key_bytes(const TfheParameters& p) {
  const std::uint32_t words = p.small_dimension.value + 1;
  const std::uint32_t padded = (words + kKeyswitchRowWords - 1) / kKeyswitchRowWords;
  return keyswitch_rows(p) * padded * kKeyswitchRowWords * sizeof(std::uint32_t);
}

double trace_key_bytes(const TfheParameters& p) {
  return trace_rows(p) * polynomials(p) * p.polynomial_size.value * sizeof(double);
}

double memory_key_bytes(const TfheParameters& p) {
  return bootstrap_key_bytes(p) + keyswitch_key_bytes(p) + trace_key_bytes(p);
}

double wire_key_bytes(const TfheParameters& p) {
  const double rows = steps(p) * ggsws_of_a_step(p) * polynomials(p) * p.bootstrap.level_count;
  return (rows + trace_rows(p)) * p.polynomial_size.value * p.body_bytes() +
         keyswitch_rows(p) * sizeof(std::uint32_t);
}

}  // namespace torusml
