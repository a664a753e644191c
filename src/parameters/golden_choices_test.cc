// What the search chooses for every demand of the grid, at the 128-bit line.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>

#include "parameters/catalogue.h"
#include "parameters/generators/demand_grid.h"
#include "parameters/noise.h"
#include "parameters/testing/golden_file.h"

namespace torusml {
namespace {

constexpr const char* kPath = "src/parameters/testdata/golden_choices.txt";
constexpr const char* kHeader =
    R"(# The optimizer's choice for one lookup of 2^bits values that fill the half torus, after a linear map of L2 norm 2^norm, at the
# 128-bit line and the shipped cost table. Written by parameters_test with TORUSML_UPDATE_GOLDEN=1. Columns:
#   log2 p_error | bits | norm | key set | h, or bits a rotation / digits x bits of a wide lookup | ms on one core | MB in memory | MB on the wire | log2 of the predicted p_error
)";

double half_box(const Demand& demand) { return std::exp2(-(demand.bits + 2)); }

// Noise at the table, from the formulas.
double noise(const Demand& demand, const TfheParameters& p, std::uint32_t h) {
  const std::uint64_t modulus = std::uint64_t{2 * p.polynomial_size.value} << h;
  return std::exp2(2 * demand.norm_log2) * blind_rotation_variance(p).value +
         keyswitch_variance(p).value + modulus_switch_variance(p.small_dimension, modulus).value;
}

double failure(const Demand& demand, const ParameterChoice& choice) {
  const TfheParameters& p = choice.key_sets[0].parameters;
  if (has_wide_lookup(choice)) {
    const double input = std::exp2(2 * demand.norm_log2) * blind_rotation_variance(p).value;
    return wide_failure(p, choice.wide[0], input);
  }
  return tail_probability(half_box(demand) / std::sqrt(noise(demand, p, choice.extension_log2[0])));
}

std::string method(const ParameterChoice& choice) {
  const WideShape& wide = choice.wide[0];
  if (!has_wide_lookup(choice)) return fmt::format("{}", choice.extension_log2[0]);
  return fmt::format("{}/{}x{}", wide.bits_per_rotation, wide.digit_count, wide.digit_bits);
}

std::string line(const Demand& demand, const std::optional<ParameterChoice>& choice) {
  std::string text = fmt::format("{} {} {} ", demand.p_error_log2, demand.bits, demand.norm_log2);
  if (!choice) return text + "infeasible\n";
  return text + fmt::format("{} {} {:.2f} {:.1f} {:.1f} {:.1f}\n",
                            key_set_name(choice->key_sets[0].parameters), method(*choice),
                            choice->cost_ms_per_core, choice->key_bytes.memory / 1e6,
                            choice->key_bytes.wire / 1e6, std::log2(failure(demand, *choice)));
}

TEST(GoldenChoices, AreReproducedAndSound) {
  std::string text = kHeader;
  for (const Demand& demand : demand_grid({-17, -40, -64, -128})) {
    const std::optional<ParameterChoice> choice = choose_parameters(demand.request());
    text += line(demand, choice);
    if (!choice) continue;
    const TfheParameters& p = choice->key_sets[0].parameters;
    const std::uint32_t h = choice->extension_log2[0];
    EXPECT_LE(std::log2(failure(demand, *choice)), demand.p_error_log2) << line(demand, choice);
    if (!has_wide_lookup(*choice)) {
      EXPECT_GE(std::uint64_t{p.polynomial_size.value} << h, std::uint64_t{2} << demand.bits);
    }
    EXPECT_EQ(p.small_variance, minimal_variance(p.small_dimension.value, 128));
    EXPECT_EQ(p.glwe_variance, minimal_variance(p.big_dimension().value, 128));
    EXPECT_LT(p.bootstrap.base_log2 * p.bootstrap.level_count, p.accumulator_bits);
    EXPECT_EQ(p.small_dimension.value % p.grouping_factor, 0u);
  }
  expect_golden(kPath, text);
}

}  // namespace
}  // namespace torusml
