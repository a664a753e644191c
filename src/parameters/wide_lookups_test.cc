#include "parameters/wide_lookups.h"

#include <gtest/gtest.h>

#include <cmath>

#include "parameters/catalogue.h"
#include "parameters/cost.h"
#include "parameters/generators/demand_grid.h"
#include "parameters/noise.h"
#include "torusml/error.h"

namespace torusml {
namespace {

ParameterRequest wide_request(int bits, int norm_log2 = 0, int p_error_log2 = -40) {
  return Demand{bits, norm_log2, p_error_log2}.request();
}

TEST(WideLookups, HaveAnEventForEachRotationAndDigit) {
  TfheParameters p;
  p.polynomial_size = {2048};
  p.circuit_bootstrap = {6, 3};
  const WideShape shape{.index_bits = 5, .bits_per_rotation = 2, .digit_bits = 3, .digit_count = 2};
  const std::vector<WideEvent> events = wide_events(p, shape);
  ASSERT_EQ(events.size(), 5u);
  // Two bits take 7 functions, a stride of 8; the last bit alone 4.
  EXPECT_EQ(events[0].modulus, 4096u / 8);
  EXPECT_EQ(events[2].modulus, 4096u / 4);
  EXPECT_EQ(events[0].scale_log2, 4u);
  EXPECT_EQ(events[1].scale_log2, 2u);
  EXPECT_EQ(events[2].scale_log2, 1u);
  EXPECT_EQ(events[0].half_box, 0x1p-3);
  // Half a step of a box of two half steps, then half and two of eight.
  EXPECT_EQ(events[1].half_box, 0x1p-3 * 0.75);
  EXPECT_EQ(events[2].half_box, 0x1p-2 * (1 - 2.5 / 8));
  for (const std::size_t digit : {3, 4}) {
    EXPECT_TRUE(events[digit].reads_digit);
    EXPECT_EQ(events[digit].half_box, 0x1p-5);
    EXPECT_EQ(events[digit].modulus, 4096u);
  }
}

TEST(WideLookups, AllowWhatThePlainLimitMeans) {
  for (const int p_error_log2 : {-17, -40, -128}) {
    const NoiseConstraint c = wide_request(12, 0, p_error_log2).constraints[0];
    EXPECT_NEAR(std::log2(allowed_failure(c)), p_error_log2, 1e-6);
  }
}

TEST(WideLookups, AreChosenFromSomeWidthOnAndKeepThePError) {
  for (const int bits : {10, 12, 16}) {
    const auto choice = choose_parameters(wide_request(bits));
    ASSERT_TRUE(choice);
    ASSERT_TRUE(has_wide_lookup(*choice));
    const TfheParameters& p = choice->key_sets[0].parameters;
    EXPECT_LE(wide_failure(p, choice->wide[0], blind_rotation_variance(p).value), 0x1p-40);
    EXPECT_LE(choice->key_bytes.memory, 750e6);
    EXPECT_LE(choice->key_bytes.wire, 250e6);
    ParameterRequest plain = wide_request(bits);
    plain.constraints[0].index_bits = 0;
    EXPECT_LT(choice->cost_ms_per_core, 0.5 * choose_parameters(plain)->cost_ms_per_core);
  }
  EXPECT_FALSE(has_wide_lookup(*choose_parameters(wide_request(5))));
}

// A wide lookup beside ordinary ones: one key set serves both.
TEST(WideLookups, ShareAKeySetWithOthers) {
  ParameterRequest request = wide_request(12);
  for (const int bits : {2, 3, 4, 5, 6})
    request.constraints.push_back(wide_request(bits).constraints[0]);
  const auto choice = choose_parameters(request);
  ASSERT_TRUE(choice);
  EXPECT_EQ(choice->wide[0].index_bits, 12u);
  for (std::size_t i = 1; i < choice->wide.size(); ++i) EXPECT_EQ(choice->wide[i].index_bits, 0u);
  const auto again = apply_parameters(choice->key_sets[0].parameters, request);
  ASSERT_TRUE(again);
  EXPECT_EQ(again->cost_ms_per_core, choice->cost_ms_per_core);
}

TEST(WideLookups, NeedCircuitBootstrapping) {
  auto choice = choose_parameters(wide_request(12));
  ASSERT_TRUE(choice);
  TfheParameters without = choice->key_sets[0].parameters;
  without.circuit_bootstrap = without.trace = {};
  const auto plain = apply_parameters(without, wide_request(12));
  EXPECT_TRUE(!plain || !has_wide_lookup(*plain));
  EXPECT_LT(key_bytes(without).memory, key_bytes(choice->key_sets[0].parameters).memory);
}

TEST(WideLookups, LargerKeysMustBeWorthIt) {
  ParameterChoice small, large;
  small.key_bytes = {100e6, 30e6};
  large.key_bytes = {180e6, 60e6};
  small.cost_ms_per_core = 100;
  large.cost_ms_per_core = 70;
  EXPECT_FALSE(is_preferable(large, small));
  EXPECT_TRUE(is_preferable(small, large));
  large.cost_ms_per_core = 60;
  EXPECT_TRUE(is_preferable(large, small));
  EXPECT_FALSE(is_preferable(small, large));
}

TEST(WideLookups, RefuseImpossibleWidths) {
  ParameterRequest request = wide_request(12);
  request.constraints[0].index_bits = 17;
  EXPECT_THROW(choose_parameters(request), Error);
  request.constraints[0].index_bits = 12;
  request.constraints[0].result_bits = 49;
  EXPECT_THROW(choose_parameters(request), Error);
}

}  // namespace
}  // namespace torusml
