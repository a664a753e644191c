// How results travel: bits of their words, and many in a ciphertext.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "base/testing/errors.h"
#include "parameters/noise.h"
#include "parameters/wire_noise.h"
#include "plan/plan.h"
#include "plan/testing/circuits.h"
#include "plan/wire_size.h"
#include "torusml/error.h"

namespace torusml {
namespace {

// Rounding takes no more than the noise leaves, and a sixteenth at most of what is there or may be
// there in an exact output.
TEST(WireForm, ResultsTravelInTheFewestBits) {
  for (const Precision precision : {Precision::exact, Precision::tolerant}) {
    const PlanOptions options{.precision = precision, .tolerance = 0x1p-6};
    const Circuit circuit = step(0, 15);
    const Plan plan = make_plan(circuit, options);
    const OutputPlan& output = plan.outputs.at(3);
    const TensorPlan& operand = plan.tensors[2];
    const double width = static_cast<double>(circuit.values[2].interval.size() - 1);
    const double exact = std::pow(operand.scale / (2 * kappa(0x1p-40)), 2);
    const double limit = std::max(exact, std::pow(output.tolerance * width * operand.scale, 2));
    const auto rounding = [&](int bits) {
      return wire_rounding_variance(plan.big_dimension(), bits).value;
    };
    EXPECT_LT(output.wire_bits, 24);
    EXPECT_LE(rounding(output.wire_bits), std::max(exact, operand.noise.value) / 16 * (1 + 1e-9));
    EXPECT_NEAR(output.noise.value / (operand.noise.value + rounding(output.wire_bits)), 1, 1e-6);
    EXPECT_LE(output.noise.value, limit * (1 + 1e-9));
    EXPECT_GT(
        rounding(output.wire_bits - 1),
        std::min(std::max(exact, operand.noise.value) / 16, limit - operand.noise.value) * 0.99);
    EXPECT_LE(output.wrap_probability, 0x1p-40 * (1 + 1e-6));
  }
}

// Six bits, which take a key set of one polynomial of degree 2048.
TEST(WireForm, ResultsArePackedWhereAsked) {
  const Circuit circuit = step(0, 63);
  const Plan loose = make_plan(circuit, {});
  ASSERT_EQ(loose.key_sets[0].parameters.glwe_dimension.value, 1u);
  const Plan plan = make_plan(circuit, {.pack_outputs = PackOutputs::on});
  TfheParameters parameters = loose.key_sets[0].parameters;
  EXPECT_FALSE(loose.outputs.at(3).packed);
  parameters.trace = {16, 2};
  EXPECT_EQ(plan.key_sets[0].parameters, parameters);
  EXPECT_EQ(plan.key_sets[0].name, loose.key_sets[0].name + "-r2x16");
  const OutputPlan& output = plan.outputs.at(3);
  EXPECT_TRUE(output.packed);
  EXPECT_EQ(wire_noise(plan.key_sets, output.wire_bits, true).value,
            wire_rounding_variance({2048}, output.wire_bits).value +
                result_packing_variance(parameters).value);
  EXPECT_NEAR(output.noise.value / (plan.tensors[2].noise.value +
                                    wire_noise(plan.key_sets, output.wire_bits, true).value),
              1, 1e-6);
  EXPECT_LE(output.wire_bits, loose.outputs.at(3).wire_bits + 1);
  const std::string text = print(plan, circuit);
  EXPECT_NE(text.find(" packed guard"), std::string::npos);
  EXPECT_EQ(print(parse_plan(text), circuit), text);
  EXPECT_TRUE(parse_plan(text).outputs.at(3).packed);
}

// A mask of N words for N results and a body for each.
TEST(WireForm, BytesOfPackedResults) {
  const Circuit circuit = step(0, 63);
  Plan plan = make_plan(circuit, {.pack_outputs = PackOutputs::on});
  plan.outputs.at(3).wire_bits = 16;
  EXPECT_EQ(wire_size(circuit, plan).outputs, 2 * 2049u);
  EXPECT_EQ(wire_size(circuit, plan, 100).outputs, 2 * 2148u);
  EXPECT_EQ(wire_size(circuit, plan, 100).inputs, 100 * 2 * 8u);
  EXPECT_EQ(wire_size(circuit, plan, 3000).outputs, 2 * (2 * 2048 + 3000u));
  plan.outputs.at(3).packed = false;
  EXPECT_EQ(wire_size(circuit, plan, 100).outputs, 2 * 100 * 2049u);
}

// Key sets for wide lookups have the keys for it anyway.
TEST(WireForm, ResultsOfWideLookupsArePacked) {
  const Circuit circuit = step(0, 511);
  const Plan plan = make_plan(circuit, {});
  EXPECT_TRUE(plan.outputs.at(3).packed);
  const Plan loose = make_plan(circuit, {.pack_outputs = PackOutputs::off});
  EXPECT_FALSE(loose.outputs.at(3).packed);
  EXPECT_EQ(plan.key_sets[0].name, loose.key_sets[0].name);
  EXPECT_LE(wire_size(circuit, plan).outputs, wire_size(circuit, loose).outputs);
  EXPECT_LT(wire_size(circuit, plan, 10).outputs, wire_size(circuit, loose, 10).outputs / 5);
}

TEST(WireForm, OneOfTwoKeySetsPacksResults) {
  const Plan plan = make_plan(mixed(), {.pack_outputs = PackOutputs::on});
  ASSERT_EQ(plan.key_sets.size(), 2u);
  const auto set = packing_key_set(plan.key_sets);
  ASSERT_TRUE(set);
  EXPECT_EQ(plan.key_sets[*set].parameters.glwe_dimension.value, 1u);
  EXPECT_FALSE(plan.key_sets[1 - *set].parameters.has_trace());
  EXPECT_TRUE(plan.outputs.at(4).packed);
}

TEST(WireForm, ResultsThatCannotBePackedAreTold) {
  const PlanOptions on{.pack_outputs = PackOutputs::on};
  const auto refusal = [&](const Circuit& circuit, const ParameterSearch& search) -> std::string {
    const Error error = error_of([&] { make_plan(circuit, on, search); });
    EXPECT_EQ(error.code(), ErrorCode::not_supported);
    return error.what();
  };
  const auto under = [](std::uint32_t k, std::uint32_t size) {
    return [=](const ParameterRequest& request, std::string*) {
      std::vector<TfheParameters> sets;
      for (const TfheParameters& p : catalogue()) {
        if (p.glwe_dimension.value == k && p.polynomial_size.value == size) sets.push_back(p);
      }
      return choose_among(sets, request);
    };
  };
  EXPECT_NE(refusal(step(0, 7), under(2, 1024)).find("GLWE dimension 2, packing takes 1"),
            std::string::npos);
  Circuit echo;
  echo.values = {{{1}, {0, 3}}};
  echo.nodes = {{"x", Input{0}}, {"y", Output{0}}};
  const Error without = error_of([&] { make_plan(echo, on); });
  EXPECT_EQ(without.code(), ErrorCode::not_supported);
  EXPECT_NE(without.message().find("without a lookup"), std::string::npos);
  // A trace that wide lookups do not need, and that is too coarse.
  const auto coarse = [&](const ParameterRequest& request, std::string* tightest) {
    std::optional<ParameterChoice> choice = under(1, 2048)(request, tightest);
    choice->key_sets[0].parameters.trace = {4, 1};
    return choice;
  };
  EXPECT_NE(refusal(step(0, 7), coarse).find("the outputs leave room for 2^-"), std::string::npos);
  EXPECT_FALSE(make_plan(step(0, 7), {}, coarse).outputs.at(3).packed);
  EXPECT_EQ(error_of([] { parse_pack_outputs("yes"); }).code(), ErrorCode::unknown_option);
}

}  // namespace
}  // namespace torusml
