#include "plan/plan.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "base/testing/errors.h"
#include "circuit/passes.h"
#include "circuit/text.h"
#include "parameters/cost.h"
#include "parameters/noise.h"
#include "parameters/split.h"
#include "parameters/wide_lookups.h"
#include "plan/testing/circuits.h"
#include "torusml/error.h"

namespace torusml {
namespace {

// A tolerance for each of two layers, in their own lookups and in the text.
TEST(Plan, LayersHavePrecisionsOfTheirOwn) {
  PlanOptions options{.precision = Precision::tolerant};
  options.layers["first"] = {};
  options.layers["second"] = {Precision::tolerant, 0x1p-7};
  const Circuit circuit = mixed();
  const Plan plan = make_plan(circuit, options);
  EXPECT_EQ(plan.lookups.at(1).policy, Precision::exact);
  EXPECT_EQ(plan.lookups.at(1).tolerance, 0);
  EXPECT_LE(plan.lookups.at(1).flip_probability, 0x1p-40);
  const LookupPlan& second = plan.lookups.at(3);
  EXPECT_EQ(second.policy, Precision::tolerant);
  EXPECT_EQ(second.tolerance, 0x1p-7);
  EXPECT_GT(second.flip_probability, 0x1p-10);
  EXPECT_LE(second.wrap_probability, 0x1p-40);
  EXPECT_LE(std::sqrt(second.noise.value), 0x1p-7 * 252 * plan.tensors[2].scale * (1 + 1e-9));
  EXPECT_EQ(plan.outputs.at(4).tolerance, options.tolerance);
  const std::string text = print(plan, circuit);
  EXPECT_EQ(print(parse_plan(text), circuit), text);
  EXPECT_NE(text.find("tolerant tolerance 0.0078125"), std::string::npos) << text;
  options.precision = Precision::exact;
  options.layers.erase("second");
  EXPECT_LT(plan.cost_ms_per_core, make_plan(circuit, options).cost_ms_per_core);
}

// An exact lookup and a tolerant one of the same value: guard bands of the one leave the other its
// half box.
TEST(Plan, ExactAndTolerantReadersOfOneScale) {
  Circuit circuit = mixed();
  circuit.values.push_back({{8}, {0, 252}});
  circuit.values.push_back({{8}, {0, 7}});
  Table table = std::get<Lut>(circuit.nodes[3].op).tables[0];
  table.name = "third";
  circuit.nodes.insert(circuit.nodes.begin() + 4, {{"copy", Linear{{{2, ScaleWeight{1}}}, {}, 4}},
                                                   {"third", Lut{4, {table}, {5}}},
                                                   {"z", Output{5}}});
  for (const double tolerance : {0x1p-5, 0x1p-7, 0x1p-9}) {
    PlanOptions options{.precision = Precision::exact};
    options.layers["third"] = {Precision::tolerant, tolerance};
    const Plan plan = make_plan(circuit, options);
    EXPECT_LE(plan.lookups.at(3).flip_probability, 0x1p-40 * (1 + 1e-9)) << tolerance;
    EXPECT_LE(plan.lookups.at(5).wrap_probability, 0x1p-40 * (1 + 1e-9)) << tolerance;
  }
}

TEST(Plan, RefusesLayersThatCannotBe) {
  const auto code = [](const std::string& name, const LayerPrecision& layer,
                       Profile profile = Profile::private_results) {
    PlanOptions options{.profile = profile};
    options.layers[name] = layer;
    return error_of([&] { make_plan(mixed(), options); }).code();
  };
  EXPECT_EQ(code("first", {Precision::automatic}), ErrorCode::invalid_argument);
  EXPECT_EQ(code("first", {Precision::exact, 0.01}), ErrorCode::invalid_argument);
  EXPECT_EQ(code("first", {Precision::tolerant, 0.5}), ErrorCode::invalid_argument);
  EXPECT_EQ(code("first", {Precision::tolerant, -1}), ErrorCode::invalid_argument);
  EXPECT_EQ(code("third", {}), ErrorCode::unknown_option);
  EXPECT_EQ(code("second", {Precision::tolerant}, Profile::shared_results),
            ErrorCode::profile_forbids);
  EXPECT_EQ(error_of([] { make_plan(mixed(), {.precision = Precision::automatic}); }).code(),
            ErrorCode::invalid_argument);
}

TEST(Plan, ExactKeepsNoiseWithinHalfABox) {
  for (std::int64_t upper : {3, 7, 10, 31}) {
    const Plan plan = make_plan(step(0, upper), {});
    const LookupPlan& lookup = plan.lookups.at(2);
    const double scale = plan.tensors[1].scale;
    EXPECT_DOUBLE_EQ(scale, 0.5 / static_cast<double>(upper + 1));
    EXPECT_LE(kappa(0x1p-40) * std::sqrt(lookup.noise.value), scale / 2);
    EXPECT_DOUBLE_EQ(lookup.guard, 0.5);
    EXPECT_LE(lookup.step_probability, 0x1p-40 * (1 + 1e-9));
    EXPECT_GT(lookup.step_probability, 0);
    EXPECT_LE(lookup.far_probability, tail_probability(3 * kappa(0x1p-40)) * (1 + 1e-6));
    EXPECT_EQ(plan.lookup_count, 1);
    EXPECT_LE(plan.sample_p_error, 0x1p-39);
  }
}

// A step in the middle of 2^b values fills the whole torus: the padding's bit is free.
TEST(Plan, StepsNeedNoPadding) {
  const PlanOptions options{.key_set_source = KeySetSource::custom};
  for (const std::int64_t half : {1, 2, 8, 16, 32}) {
    const Circuit circuit = step(1 - half, half);
    const Plan plan = make_plan(circuit, options);
    const LookupPlan& lookup = plan.lookups.at(2);
    EXPECT_TRUE(lookup.is_odd);
    EXPECT_EQ(plan.tensors[1].scale, 0.5 / static_cast<double>(half));
    EXPECT_EQ(lookup.guard, 0.5);
    EXPECT_LE(lookup.flip_probability, 0x1p-40);
    EXPECT_LE(lookup.wrap_probability, 0x1p-40);
    if (half >= 4) {  // as many values in the half torus, with the step elsewhere
      const Plan padded = make_plan(step(0, half - 1), options);
      EXPECT_FALSE(padded.lookups.at(2).is_odd);
      EXPECT_EQ(parameters_of(plan.key_sets), parameters_of(padded.key_sets));
      EXPECT_EQ(lookup.rotation, padded.lookups.at(2).rotation);
    }
    const std::string text = print(plan, circuit);
    EXPECT_NE(text.find(" odd guard "), std::string::npos) << text;
    EXPECT_EQ(print(parse_plan(text), circuit), text);
  }
}

// The interval is widened to as many values on both sides of the step, where that is worth it.
TEST(Plan, StepsOffTheMiddleAreWidened) {
  const Plan off = make_plan(step(-6, 7), {});  // 7 values on either side, widened to 8
  EXPECT_TRUE(off.lookups.at(2).is_odd);
  EXPECT_EQ(off.tensors[1].scale, 1.0 / 16);
  EXPECT_EQ(off.lookups.at(2).guard, 1.5);
  const Plan more = make_plan(step(-4, 10), {});  // 5 values below, 10 above
  EXPECT_TRUE(more.lookups.at(2).is_odd);
  EXPECT_EQ(more.tensors[1].scale, 0.5 / 10);
  EXPECT_FALSE(make_plan(step(-1, 10), {}).lookups.at(2).is_odd);
  const PlanOptions tolerant{.precision = Precision::tolerant};
  EXPECT_FALSE(make_plan(step(-157, 158), tolerant).lookups.at(2).is_odd);
  // What reads bits reads them of the half torus.
  EXPECT_FALSE(make_plan(step(-2047, 2048), {}).lookups.at(2).is_odd);
}

TEST(Plan, ExactLookupsOfMoreBitsExtendTheTable) {
  const Plan plan = make_plan(step(0, 63), {});
  const LookupPlan& lookup = plan.lookups.at(2);
  EXPECT_GT(lookup.rotation.extension_log2, 0u);
  EXPECT_LE(plan.big_dimension().value, 4096u);
}

TEST(Plan, TolerantFillsTheHalfTorusLessGuardBands) {
  const Plan plan = make_plan(step(-157, 150), {.precision = Precision::tolerant});
  const LookupPlan& lookup = plan.lookups.at(2);
  const double scale = plan.tensors[1].scale, sigma = std::sqrt(lookup.noise.value);
  EXPECT_NEAR(scale * (307 + 2 * lookup.guard), 0.5, 1e-12);
  EXPECT_NEAR(lookup.guard * scale, kappa(0x1p-40) * sigma, 1e-12);
  EXPECT_LE(sigma, plan.options.tolerance * 307 * scale * (1 + 1e-9));
  EXPECT_LE(lookup.wrap_probability, 0x1p-40);
  // One unit is a fraction of the noise: most errors are of more than one entry.
  EXPECT_LT(lookup.far_probability, lookup.step_probability);
  EXPECT_NEAR(lookup.far_probability, tail_probability(1.5 * scale / sigma), 0.05);
  EXPECT_GT(lookup.flip_probability, 1e-4);
  EXPECT_LT(lookup.flip_probability, 0.05);
  EXPECT_EQ(lookup.rotation.extension_log2, 0u);
}

// From some width on the value's bits are read, which takes values a power of two apart.
TEST(Plan, ExactLookupsOfManyBitsAreWide) {
  for (const std::int64_t upper : {255, 300, 511, 65535}) {
    const Circuit circuit = step(0, upper);
    const Plan plan = make_plan(circuit, {});
    const LookupPlan& lookup = plan.lookups.at(2);
    const auto bits = static_cast<std::uint32_t>(std::ceil(std::log2(upper + 1)));
    EXPECT_TRUE(plan.key_sets[0].parameters.has_circuit_bootstrap());
    EXPECT_EQ(lookup.wide.index_bits, bits);
    EXPECT_EQ(lookup.wide.digit_count, 1u);  // the step has two values
    EXPECT_EQ(plan.tensors[1].scale, std::exp2(-(bits + 1.0)));
    EXPECT_LE(lookup.flip_probability, 0x1p-40);
    EXPECT_EQ(lookup.wrap_probability, lookup.flip_probability);
    EXPECT_GE(lookup.far_probability, lookup.flip_probability - lookup.step_probability);
    EXPECT_LE(lookup.far_probability, lookup.flip_probability);
    EXPECT_EQ(parse_plan(print(plan, circuit)).lookups.at(2).wide, lookup.wide);
  }
}

// rounded plans as exact does; bits of approximate rounding set the tolerance.
TEST(Plan, Rounding) {
  const Circuit circuit = step(-30, 33);
  const Plan exact = make_plan(circuit, {});
  Plan rounded = make_plan(circuit, {.precision = Precision::rounded});
  EXPECT_EQ(rounded.options.precision, Precision::rounded);
  EXPECT_EQ(rounded.lookups.at(2).policy, Precision::exact);
  rounded.options.precision = Precision::exact;
  EXPECT_EQ(print(rounded, circuit), print(exact, circuit));

  const Plan approximate = make_plan(
      circuit, {.precision = Precision::tolerant, .p_error = 0x1p-20, .approximate_bits = 5});
  EXPECT_DOUBLE_EQ(approximate.options.tolerance, 0x1p-5 / (2 * kappa(0x1p-20)));
  const LookupPlan& lookup = approximate.lookups.at(2);
  const double interval = 63 * approximate.tensors[1].scale;
  EXPECT_LE(std::sqrt(lookup.noise.value), approximate.options.tolerance * interval);
}

// 2^p values fill the half torus: borders between values are borders between entries.
TEST(Plan, AlignedTablesGiveNothingAway) {
  const Plan aligned = make_plan(step(0, 63), {.key_set_source = KeySetSource::custom});
  const LookupPlan& lookup = aligned.lookups.at(2);
  const double box = aligned.tensors[1].scale;
  EXPECT_NEAR(lookup.step_probability / tail_probability(box / 2 / std::sqrt(lookup.noise.value)),
              1, 1e-12);
  const Plan off = make_plan(step(0, 62), {.key_set_source = KeySetSource::custom});
  EXPECT_GT(off.lookups.at(2).step_probability,
            tail_probability(off.tensors[1].scale / 2 / std::sqrt(off.lookups.at(2).noise.value)));
}

TEST(Plan, KeySetsComeFromTheCatalogue) {
  const Circuit circuit = step(0, 15);
  const Plan plan = make_plan(circuit, {});
  const KeySet& set = plan.key_sets[0];
  EXPECT_EQ(set.name, key_set_name(set.parameters));
  EXPECT_NE(print(plan, circuit).find("key_set \"" + set.name + "\""), std::string::npos);
  // A slightly different network keeps the keys.
  EXPECT_EQ(make_plan(step(0, 14), {}).key_sets[0].parameters, set.parameters);

  const Plan custom = make_plan(circuit, {.key_set_source = KeySetSource::custom});
  EXPECT_EQ(custom.key_sets[0].name, kCustomKeySet);
  EXPECT_LE(custom.cost_ms_per_core, plan.cost_ms_per_core);
  EXPECT_EQ(make_plan(circuit, {.security_bits = 132}).key_sets[0].name, kCustomKeySet);
}

// Noise of every tensor and failure of every lookup, worked out here for this circuit.
void expect_sound_mixed(const Plan& plan) {
  const LookupPlan &first = plan.lookups.at(1), &second = plan.lookups.at(3);
  const KeySet &of_first = plan.key_set_of(first), &of_second = plan.key_set_of(second);
  const auto bootstrap = [](const KeySet& set) {
    return blind_rotation_variance(set.parameters).value;
  };
  const double digits = second.wide.index_bits == 0 ? 1 : second.wide.digit_count;
  const double sums = 4 * bootstrap(of_first), result = digits * bootstrap(of_second);
  EXPECT_NEAR(plan.tensors[1].noise.value / bootstrap(of_first), 1, 1e-9);
  EXPECT_NEAR(plan.tensors[2].noise.value / sums, 1, 1e-9);
  EXPECT_NEAR(plan.tensors[3].noise.value / result, 1, 1e-9);
  const double sigmas = kappa(plan.options.p_error);
  const auto expect_plain = [&](const LookupPlan& lookup, const KeySet& set, ValueId operand) {
    const TfheParameters& p = set.parameters;
    const std::uint64_t modulus = 2 * lookup.rotation.table_size(p.polynomial_size);
    const double noise = plan.tensors[operand].noise.value + keyswitch_variance(p).value +
                         modulus_switch_variance(p.small_dimension, modulus).value;
    EXPECT_NEAR(lookup.noise.value / noise, 1, 1e-9);
    EXPECT_LE(sigmas * std::sqrt(noise), plan.tensors[operand].scale / 2);
  };
  expect_plain(first, of_first, 0);
  if (second.wide.index_bits == 0)
    expect_plain(second, of_second, 2);
  else
    EXPECT_LE(wide_failure(of_second.parameters, second.wide, sums), plan.options.p_error);
}

TEST(Plan, AMixedCircuitHasTwoKeySets) {
  const Circuit circuit = mixed();
  for (const KeySetSource source : {KeySetSource::catalogue, KeySetSource::custom}) {
    const Plan two = make_plan(circuit, {.key_set_source = source});
    const Plan one = make_plan(circuit, {.key_set_source = source, .max_key_sets = 1});
    ASSERT_EQ(two.key_sets.size(), 2u);
    ASSERT_EQ(one.key_sets.size(), 1u);
    EXPECT_EQ(two.lookups.at(1).key_set, 1u);
    EXPECT_EQ(two.lookups.at(3).key_set, 0u);
    EXPECT_EQ(lookups_by_key_set(two, circuit), (std::vector<std::int64_t>{8, 200}));
    EXPECT_EQ(lookups_by_key_set(one, circuit), (std::vector<std::int64_t>{208}));
    EXPECT_LE(two.cost_ms_per_core, kWorthSecondKeySet * one.cost_ms_per_core);
    ASSERT_TRUE(two.one_key_set);
    EXPECT_EQ(two.one_key_set->name, one.key_sets[0].name);
    EXPECT_EQ(two.one_key_set->cost_ms_per_core, one.cost_ms_per_core);
    EXPECT_EQ(two.one_key_set->key_bytes.wire, key_bytes(one.key_sets).wire);
    EXPECT_FALSE(one.one_key_set);
    expect_sound_mixed(two);
    expect_sound_mixed(one);
    EXPECT_EQ(print(make_plan(circuit, {.key_set_source = source}), circuit), print(two, circuit));
    EXPECT_EQ(print(parse_plan(print(two, circuit)), circuit), print(two, circuit));
  }
}

// Limits of tolerant lookups are fractions of their intervals; few values are read exactly.
TEST(Plan, TwoKeySetsKeepTheTolerance) {
  const Circuit circuit = mixed();
  int split = 0;
  for (const double tolerance : {0x1p-8, 0x1p-9, 0x1p-10, 0x1p-11, 0x1p-12}) {
    const PlanOptions options{.precision = Precision::tolerant, .tolerance = tolerance};
    const Plan plan = make_plan(circuit, options);
    split += plan.key_sets.size() == 2 ? 1 : 0;
    for (const auto& [node, lookup] : plan.lookups) {
      const TensorPlan& tensor = plan.tensors[std::get<Lut>(circuit.nodes[node].op).operand];
      const double width = node == 1 ? 7 : 252, sigma = std::sqrt(lookup.noise.value);
      const double exact = tensor.scale / (2 * kappa(plan.options.p_error));
      EXPECT_LE(sigma, std::max(exact, tolerance * width * tensor.scale) * (1 + 1e-9));
      EXPECT_LE(lookup.wrap_probability, 0x1p-40 * (1 + 1e-9));
    }
  }
  EXPECT_GT(split, 0);
}

TEST(Plan, TwoKeySetsAsText) {
  const Circuit circuit = step(0, 1);
  TfheParameters small{.small_dimension = {600},
                       .glwe_dimension = {2},
                       .polynomial_size = {1024},
                       .bootstrap = {23, 1},
                       .keyswitch = {2, 6},
                       .grouping_factor = 2,
                       .accumulator_bits = 32,
                       .small_variance = {0x1p-26},
                       .glwe_variance = {0x1p-100}};
  TfheParameters precise = small;
  precise.glwe_dimension = {1};
  precise.polynomial_size = {2048};
  precise.accumulator_bits = 64;
  Plan plan;
  plan.circuit_name = "step";
  plan.options.p_error = 0x1p-40;
  plan.options.tolerance = 0x1p-8;
  plan.key_sets = {{"precise", precise, {0x1p-42}, {0x1p-16}},
                   {"cheap", small, {0x1p-30}, {0x1p-14}}};
  plan.fresh = {0x1p-100};
  plan.tensors.resize(3, {.scale = 0x1p-2, .center = 0.5, .noise = {0}});
  plan.lookups[2] = {.key_set = 1, .guard = 0.5, .noise = {0x1p-14}};
  plan.outputs[3] = {.guard = 0.5};
  plan.lookup_count = 1;
  plan.cost_ms_per_core = 4.5;
  plan.one_key_set = {"precise", 8.25, {1e8, 3e7}};
  const std::string text = R"(plan "step"
  options precision exact profile private_results p_error 9.094947017729282e-13 (2^-40.0) global_p_error 0 tolerance 0.00390625 (2^-8.00) security 128 max_exact_bits 16 parameters catalogue max_key_sets 2
  key_set "precise"
  parameters n 600 k 1 N 2048 bootstrap 1x23 keyswitch 6x2 grouping 2 accumulator 64 small 1.4901161193847656e-08 (sigma 2^-13.00) glwe 7.888609052210118e-31 (sigma 2^-50.00) circuit_bootstrap 0x0 trace 0x0
  noise bootstrap 2.2737367544323206e-13 (sigma 2^-21.00) keyswitch 1.52587890625e-05 (sigma 2^-8.00)
  key_set "cheap"
  parameters n 600 k 2 N 1024 bootstrap 1x23 keyswitch 6x2 grouping 2 accumulator 32 small 1.4901161193847656e-08 (sigma 2^-13.00) glwe 7.888609052210118e-31 (sigma 2^-50.00) circuit_bootstrap 0x0 trace 0x0
  noise bootstrap 9.313225746154785e-10 (sigma 2^-15.00) keyswitch 6.103515625e-05 (sigma 2^-7.00)
  fresh 7.888609052210118e-31 (sigma 2^-50.00)
  sample lookups 1 (1 rotations, 1 keyswitches) cost_ms_per_core 4.5 p_error 0
  one_key_set "precise" cost_ms_per_core 8.25 memory_bytes 100000000 wire_bytes 30000000
  %0 scale 0.25 (2^-2.00) center 0.5 noise 0
  %1 scale 0.25 (2^-2.00) center 0.5 noise 0
  %2 scale 0.25 (2^-2.00) center 0.5 noise 0
  lookup node 2 "relu1" exact set 1 h 0 guard 0.5 noise 6.103515625e-05 (sigma 2^-7.00) step 0 far 0 flip 0 wrap 0
  output node 3 "y" exact wire_bits 64 guard 0.5 noise 0 flip 0 wrap 0
end
)";
  EXPECT_EQ(print(plan, circuit), text);
  EXPECT_EQ(print(parse_plan(text), circuit), text);
  EXPECT_EQ(parse_plan(text).lookups.at(2).key_set, 1u);
  for (std::size_t length = 0; length + 1 < text.size(); ++length) {
    EXPECT_EQ(error_of([&] { parse_plan(text.substr(0, length)); }).code(),
              ErrorCode::invalid_circuit)
        << length;
  }
  const auto refuses = [&](const std::string& from, const std::string& to) {
    std::string changed = text;
    changed.replace(changed.find(from), from.size(), to);
    return error_of([&] { parse_plan(changed); }).code() == ErrorCode::invalid_circuit;
  };
  EXPECT_TRUE(refuses("set 1 h", "set 2 h"));
  EXPECT_TRUE(refuses("k 2 N 1024", "k 2 N 2048"));
  EXPECT_TRUE(refuses("max_key_sets 2", "max_key_sets 3"));
  EXPECT_TRUE(refuses("bootstrap 1x23", "bootstrap 1x0"));
  EXPECT_TRUE(refuses("keyswitch 6x2", "keyswitch 6x0"));
  EXPECT_TRUE(refuses("keyswitch 6x2", "keyswitch 0x2"));
  EXPECT_TRUE(refuses("circuit_bootstrap 0x0 trace 0x0", "circuit_bootstrap 0x0 trace 2x0"));
  EXPECT_TRUE(refuses("accumulator 64", "accumulator 63"));
}

TEST(Plan, CostTableChangesPredictions) {
  CostTable table = kShippedCostTable;
  for (PolynomialCost& cost : table.polynomials) {
    cost.transform_ns *= 2;
    cost.multiply_ns *= 2;
  }
  table.keyswitch_ns *= 2;
  table.linear_ns *= 2;
  const Plan shipped = make_plan(step(0, 15), {});
  const Plan slow = make_plan(step(0, 15), {.cost_table = table});
  EXPECT_NEAR(slow.cost_ms_per_core / shipped.cost_ms_per_core, 2, 1e-9);
}

// Lookups and linear maps together cost what the optimizer added up.
void check_costs(const Circuit& circuit, const Plan& plan) {
  const auto products = static_cast<double>(linear_multiplications(circuit));
  double total = linear_ms(plan.key_sets[0].parameters, products, plan.options.cost_table);
  EXPECT_NEAR(linear_cost(circuit, plan), total, 1e-9 * plan.cost_ms_per_core);
  const std::map<std::size_t, double> costs = cost_by_lookup(circuit, plan);
  EXPECT_EQ(costs.size(), plan.lookups.size());
  for (const auto& [node, cost] : costs) {
    EXPECT_GT(cost, 0);
    total += cost;
  }
  EXPECT_NEAR(total, plan.cost_ms_per_core, 1e-9 * plan.cost_ms_per_core);
}

// A table of 601 clear values asks for nothing, and neither noise nor torus scale come of it.
TEST(Plan, ClearValuesCostNothing) {
  const Circuit circuit = with_clear_input();
  const Plan plan = make_plan(circuit, {});
  EXPECT_EQ(plan.lookup_count, 2);
  ASSERT_EQ(plan.lookups.size(), 1u);
  EXPECT_TRUE(plan.lookups.contains(5));
  for (const ValueId clear : {1u, 2u, 3u}) EXPECT_EQ(plan.tensors[clear].noise.value, 0);
  EXPECT_EQ(plan.tensors[4].noise.value, plan.fresh.value);
  EXPECT_EQ(plan.tensors[4].scale, plan.tensors[0].scale);
  EXPECT_NEAR(plan.tensors[4].scale, 0.5 / 13, 1e-12);
  EXPECT_LE(plan.outputs.at(7).flip_probability, 0x1p-40);
  EXPECT_EQ(count_bootstraps(circuit, plan).rotations, 2);
  check_costs(circuit, plan);
  EXPECT_EQ(print(parse_plan(print(plan, circuit)), circuit), print(plan, circuit));
  Circuit encrypted = circuit;
  mark_clear(encrypted, {false, false});
  const Plan other = make_plan(encrypted, {});
  EXPECT_EQ(other.lookup_count, 4);
  EXPECT_LT(5 * plan.cost_ms_per_core, other.cost_ms_per_core);
  EXPECT_LT(key_bytes(plan.key_sets).wire, key_bytes(other.key_sets).wire);
}

TEST(Plan, WithoutEncryptedLookupsThereIsNoBootstrap) {
  Circuit circuit = with_clear_input();
  circuit.nodes.erase(circuit.nodes.begin() + 5);
  circuit.nodes[5].op = Output{4};
  circuit.values.pop_back();
  verify(circuit);
  EXPECT_FALSE(make_plan(circuit, {}).key_sets[0].parameters.has_bootstrap());
  mark_clear(circuit, {false, false});
  EXPECT_TRUE(make_plan(circuit, {}).key_sets[0].parameters.has_bootstrap());
}

// What a user says of a layer may be said whether its input is clear or not.
TEST(Plan, LayersInTheClearMayBeNamed) {
  PlanOptions options;
  options.layers["abs"] = {Precision::tolerant, 0.01};
  EXPECT_EQ(make_plan(with_clear_input(), options).lookup_count, 2);
}

TEST(Plan, CostsByLookupAddUp) {
  for (const Circuit& circuit : {step(0, 15), step(-300, 700), mixed()}) {
    for (const double p_error : {0x1p-40, 1e-3}) {
      for (const int max_key_sets : {1, 2}) {
        check_costs(circuit,
                    make_plan(circuit, {.p_error = p_error, .max_key_sets = max_key_sets}));
      }
    }
    check_costs(circuit, make_plan(circuit, {.precision = Precision::tolerant}));
  }
}

TEST(Plan, CostsByLookupOfAnotherTableAreInProportion) {
  CostTable table = kShippedCostTable;
  table.keyswitch_ns *= 3;
  const Circuit circuit = mixed();
  const Plan plan = make_plan(circuit, {.cost_table = table});
  check_costs(circuit, plan);
  const Plan back = parse_plan(print(plan, circuit));  // without the table
  double total = linear_cost(circuit, back);
  for (const auto& [node, cost] : cost_by_lookup(circuit, back)) total += cost;
  EXPECT_NEAR(total, plan.cost_ms_per_core, 1e-9 * total);
}

TEST(Plan, EffectiveBitsOfATolerantLookupAreItsTolerance) {
  const Circuit circuit = step(-3000, 3000);
  const double tolerance = 0x1p-8;
  const Plan plan = make_plan(circuit, {.precision = Precision::tolerant, .tolerance = tolerance});
  EXPECT_LE(relative_sigma(circuit, plan, 2), tolerance);
  EXPECT_GE(*effective_bits(circuit, plan, 2), 8);
  EXPECT_LT(*effective_bits(circuit, plan, 2), 9);
  EXPECT_EQ(*effective_bits(circuit, plan, 2), -std::log2(relative_sigma(circuit, plan, 2)));
  const double spread = std::sqrt(plan.lookups.at(2).noise.value) / plan.tensors[1].scale;
  EXPECT_NEAR(relative_sigma(circuit, plan, 2), spread / 6000, 1e-12);
  // Of two values; more is rounded away before they leave.
  EXPECT_GT(*effective_bits(circuit, plan, 3), 5.8) << "the output";
}

TEST(Plan, TolerancesOfDegreesAreReached) {
  for (const std::uint32_t size : {512u, 1024u, 2048u}) {
    EXPECT_NEAR(tolerance_at(size), 5.7 / size, 0.3 / size);
    const Circuit circuit = step(-3000, 3000);
    const Plan plan =
        make_plan(circuit, {.precision = Precision::tolerant, .tolerance = tolerance_at(size)});
    EXPECT_LE(plan.key_sets[0].parameters.polynomial_size.value, size);
  }
  const Error error = error_of([] { tolerance_at(1000); });
  EXPECT_EQ(error.code(), ErrorCode::invalid_argument);
  EXPECT_EQ(error.hint(), "one of 512, 1024, 2048");
}

TEST(Plan, OneValueHasNoEffectiveBits) {
  Circuit circuit;
  circuit.values = {{{1}, {3, 3}}};
  circuit.nodes = {{"x", Input{0}}, {"y", Output{0}}};
  const Plan plan = make_plan(circuit, {});
  EXPECT_EQ(relative_sigma(circuit, plan, 1), 0);
  EXPECT_FALSE(effective_bits(circuit, plan, 1).has_value());
}

TEST(Plan, GlobalPErrorIsShared) {
  const Plan plan = make_plan(step(0, 7), {.global_p_error = 1e-3});
  EXPECT_NEAR(plan.options.p_error, 5e-4, 1e-6);  // one lookup, one output
}

TEST(Plan, TextReadsBack) {
  for (Precision precision : {Precision::exact, Precision::tolerant, Precision::rounded}) {
    const Circuit circuit = step(-20, 40);
    const Plan plan = make_plan(circuit, {.precision = precision});
    const Plan again = parse_plan(print(plan, circuit));
    EXPECT_EQ(print(again, circuit), print(plan, circuit));
    EXPECT_EQ(again.tensors[1].scale, plan.tensors[1].scale);
    EXPECT_EQ(parameters_of(again.key_sets), parameters_of(plan.key_sets));
    EXPECT_EQ(again.options.p_error, plan.options.p_error);
    EXPECT_EQ(again.options.key_set_source, plan.options.key_set_source);
    EXPECT_EQ(names_of(again.key_sets), names_of(plan.key_sets));
  }
}

// x in [0, values - 1], and two lookups of it with two tables and one.
Circuit three_tables(std::int64_t values) {
  Circuit circuit;
  circuit.name = "three";
  const TensorType type{{5}, {0, values - 1}};
  circuit.values.assign(4, type);
  const auto make_table = [&](const char* name, std::int64_t step) {
    Table table{name, type.interval, 1, {}, {}};
    for (std::int64_t v = 0; v < values; ++v) table.entries.push_back(v * step % values);
    return table;
  };
  circuit.nodes = {{"x", Input{0}},
                   {"ab", Lut{0, {make_table("a", 3), make_table("b", 5)}, {1, 2}}},
                   {"c", Lut{0, {make_table("c", 7)}, {3}}},
                   {"y", Output{1}},
                   {"z", Output{2}},
                   {"w", Output{3}}};
  return circuit;
}

TEST(Plan, TablesOfOneValueShareRotations) {
  const Circuit circuit = three_tables(8);
  const Plan apart = make_plan(circuit, {}), shared = make_plan(run_passes(circuit), {});
  EXPECT_EQ(apart.lookup_count, 15);
  EXPECT_EQ(shared.lookup_count, 15);
  EXPECT_EQ(apart.lookups.at(1).rotation.tables_log2, 1u);
  EXPECT_EQ(apart.lookups.at(2).rotation.tables_log2, 0u);
  EXPECT_EQ(count_bootstraps(circuit, apart).rotations, 10);
  EXPECT_EQ(count_bootstraps(circuit, apart).keyswitches, 10);
  EXPECT_EQ(shared.lookups.at(1).rotation.tables_log2, 2u);
  EXPECT_EQ(count_bootstraps(run_passes(circuit), shared).rotations, 5);
  EXPECT_LT(shared.cost_ms_per_core, 0.8 * apart.cost_ms_per_core);
  EXPECT_LE(shared.lookups.at(1).flip_probability, 0x1p-40);

  const std::string text = print(apart, circuit);
  EXPECT_NE(text.find("sample lookups 15 (10 rotations, 10 keyswitches)"), std::string::npos);
  EXPECT_NE(text.find("lookup node 1 \"ab\" exact h 0 tables_log2 1 guard"), std::string::npos);
  EXPECT_EQ(print(parse_plan(text), circuit), text);
  for (const std::string impossible : {"tables_log2 0", "tables_log2 -1", "tables_log2 40"}) {
    std::string changed = text;
    changed.replace(changed.find("tables_log2 1"), 13, impossible);
    EXPECT_EQ(error_of([&] { parse_plan(changed); }).code(), ErrorCode::invalid_circuit)
        << impossible;
  }
  std::string both = text;
  both.replace(both.find("h 0 tables_log2 1"), 17, "h 1 tables_log2 1");
  EXPECT_EQ(error_of([&] { parse_plan(both); }).code(), ErrorCode::invalid_circuit);
}

// Bits of a wide lookup are read once for all tables.
TEST(Plan, CountsRotationsOfWideLookups) {
  const Circuit circuit = run_passes(three_tables(1 << 10));
  const Plan plan = make_plan(circuit, {});
  const LookupPlan& lookup = plan.lookups.at(1);
  ASSERT_EQ(lookup.wide.index_bits, 10u);
  const std::int64_t rotations = lookup.wide.rotations() + 3 * lookup.wide.digit_count;
  EXPECT_EQ(count_bootstraps(circuit, plan).rotations, 5 * rotations);
  EXPECT_EQ(count_bootstraps(circuit, plan).keyswitches, 5 * rotations);
}

TEST(Plan, TextCutAnywhereIsRefused) {
  const Circuit circuit = step(0, 7);
  const std::string text = print(make_plan(circuit, {}), circuit);
  for (std::size_t length = 0; length + 1 < text.size(); ++length) {
    EXPECT_EQ(error_of([&] { parse_plan(text.substr(0, length)); }).code(),
              ErrorCode::invalid_circuit)
        << length;
  }
}

TEST(Plan, BitsBeyondTheLimitNameLayerBitsAndTheWayOut) {
  const Error error = error_of([] { make_plan(step(-157, 150), {.max_exact_bits = 8}); });
  EXPECT_EQ(error.code(), ErrorCode::accumulator_too_wide);
  EXPECT_NE(error.where().find("relu1"), std::string::npos);
  EXPECT_NE(error.message().find("needs 9 bits"), std::string::npos) << error.message();
  EXPECT_NE(error.hint().find("tolerant"), std::string::npos);
}

TEST(Plan, SeventeenBitsAreRefusedUnderTolerantToo) {
  const Error error =
      error_of([] { make_plan(step(0, 70000), {.precision = Precision::tolerant}); });
  EXPECT_EQ(error.code(), ErrorCode::accumulator_too_wide);
  EXPECT_EQ(error.hint().find("tolerant"), std::string::npos);
}

TEST(Plan, ImpossibleToleranceHasNoParameters) {
  const Error error = error_of([] {
    make_plan(step(0, 60000),
              {.precision = Precision::tolerant, .p_error = 0x1p-900, .tolerance = 1e-9});
  });
  EXPECT_EQ(error.code(), ErrorCode::no_parameters);
  EXPECT_NE(error.where().find("relu1"), std::string::npos);
}

TEST(Plan, BadOptionsAreRefused) {
  const auto code = [](PlanOptions options) {
    return error_of([&] { make_plan(step(0, 7), options); }).code();
  };
  EXPECT_EQ(code({.p_error = 1}), ErrorCode::p_error_out_of_range);
  EXPECT_EQ(code({.p_error = -0.5}), ErrorCode::p_error_out_of_range);
  EXPECT_EQ(code({.p_error = std::nan("")}), ErrorCode::p_error_out_of_range);
  EXPECT_EQ(code({.global_p_error = 2}), ErrorCode::p_error_out_of_range);
  EXPECT_EQ(code({.p_error = 0.1, .global_p_error = 0.1}), ErrorCode::invalid_argument);
  EXPECT_EQ(code({.tolerance = 0}), ErrorCode::invalid_argument);
  EXPECT_EQ(code({.tolerance = std::nan("")}), ErrorCode::invalid_argument);
  EXPECT_EQ(code({.security_bits = 80}), ErrorCode::invalid_argument);
  EXPECT_EQ(code({.max_key_sets = 0}), ErrorCode::invalid_argument);
  EXPECT_EQ(code({.max_key_sets = 3}), ErrorCode::invalid_argument);
  EXPECT_EQ(code({.precision = Precision::tolerant, .profile = Profile::shared_results}),
            ErrorCode::profile_forbids);
  EXPECT_EQ(code({.profile = Profile::shared_results, .p_error = 0x1p-40}),
            ErrorCode::profile_forbids);
  EXPECT_EQ(code({.profile = Profile::shared_results, .global_p_error = 0x1p-40}),
            ErrorCode::profile_forbids);
  EXPECT_THROW(parse_precision("fuzzy"), Error);
  EXPECT_THROW(parse_profile("public"), Error);
}

TEST(Plan, SharedResultsMeanTwoToTheMinus128) {
  const Plan plan = make_plan(step(0, 3), {.profile = Profile::shared_results});
  EXPECT_EQ(plan.options.p_error, 0x1p-128);
  EXPECT_GE(plan.tensors[1].scale / 2, kappa(0x1p-128) * std::sqrt(plan.lookups.at(2).noise.value));
}

TEST(Plan, WithoutLookupsThereIsNoBootstrap) {
  const Circuit circuit = parse_circuit(R"(circuit "linear"
  %0 = input "x" : tensor<2> [-127, 127]
  %1 = linear dense(%0, @n1.0) : tensor<1> [-20000, 20000] "fc"
  output "y" %1
constants
  @n1.0 = dense 1x2 [100, -50]
)");
  const Plan plan = make_plan(circuit, {});
  EXPECT_FALSE(plan.key_sets[0].parameters.has_bootstrap());
  EXPECT_EQ(plan.lookup_count, 0);
  EXPECT_DOUBLE_EQ(plan.tensors[1].scale, 1.0 / 40001);
}

}  // namespace
}  // namespace torusml
