#include "runtime/clear_part.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "base/testing/errors.h"
#include "circuit/text.h"
#include "plan/testing/circuits.h"
#include "runtime/lookup_table.h"
#include "runtime/noise_origins.h"
#include "runtime/random_circuit.h"
#include "runtime/testing/test_keys.h"
#include "torusml/error.h"

namespace torusml {
namespace {

// Some inputs clear, at times all of them.
TEST(ClearPart, ExecutorsAgreeOnRandomCircuits) {
  SecretGenerator random;
  const Keys keys = Keys::make({kInsecure}, random);
  std::int64_t lookups = 0, saved = 0, mixed = 0;
  for (std::uint64_t seed = 0; seed < 1000; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    RandomCircuit generator(seed);
    Circuit circuit = generator.make();
    const std::int64_t all = lookup_count(circuit);
    mark_clear(circuit, {seed % 2 == 0, seed % 3 == 0, seed % 5 == 0});
    ASSERT_EQ(parse_circuit(print(circuit)), circuit);
    const Integers inputs = generator.make_inputs(circuit, 2);
    const Integers expected = run_clear(circuit, inputs);
    const Plan plan = make_plan(circuit, {.max_exact_bits = 16}, only(kInsecure, seed % 4 != 0));
    ASSERT_EQ(run_simulated(circuit, plan, inputs, seed), expected)
        << print(circuit) << print(plan, circuit);
    ASSERT_EQ(run_under(keys.secret, keys.evaluation, circuit, plan, inputs, random), expected)
        << print(circuit) << print(plan, circuit);
    const std::vector<bool> is_clear = clear_values(circuit);
    for (const auto& [node, lookup] : plan.lookups)
      ASSERT_FALSE(is_clear[std::get<Lut>(circuit.nodes[node].op).operand]);
    for (const Node& node : circuit.nodes) {
      const auto* linear = std::get_if<Linear>(&node.op);
      if (linear == nullptr || is_clear[linear->result]) continue;
      for (const LinearTerm& term : linear->terms) mixed += is_clear[term.operand] ? 1 : 0;
    }
    lookups += plan.lookup_count;
    saved += all - plan.lookup_count;
  }
  EXPECT_GT(lookups, 1000);
  EXPECT_GT(saved, 1000);
  EXPECT_GT(mixed, 100);
}

// x and x + z have the same mask, and so the same noise of keyswitch and modulus switch; their
// bodies differ, and so the noise of their results.
TEST(NoiseOrigins, ClearTermsLeaveTheMask) {
  Circuit circuit = parse_circuit(R"(circuit "two sums"
  %0 = input "x" : tensor<1> [-3, 3]
  %1 = input "z" clear : tensor<1> [-1, 1]
  %2 = linear scale(%0, 1) : tensor<1> [-4, 4] "plain"
  %3 = linear scale(%0, 1) + scale(%1, 1) : tensor<1> [-4, 4] "shifted"
  %4 = lut %2 tables=[@a per-tensor] : tensor<1> [-4, 4] -> [0, 2] "first"
  %5 = lut %3 tables=[@b per-tensor] : tensor<1> [-4, 4] -> [0, 2] "second"
  output "y" %4
  output "w" %5
constants
  @a = table 1 rows [0, 1, 2, 0, 1, 2, 0, 1, 2]
  @b = table 1 rows [0, 1, 2, 0, 1, 2, 0, 1, 2]
)");
  const auto second_lookup = [&] {
    const Plan plan = make_plan(circuit, {}, only(kInsecure));
    std::map<std::size_t, std::vector<Torus>> constants;
    std::map<std::size_t, std::vector<TorusTable>> tables;
    for (const std::size_t n : {2u, 3u}) {
      const Linear& linear = std::get<Linear>(circuit.nodes[n].op);
      constants[n] = linear_constants(circuit, linear, plan, clear_values(circuit));
      const Lut& lut = std::get<Lut>(circuit.nodes[n + 2].op);
      tables[n + 2] = make_torus_tables(lut, plan, plan.lookups.at(n + 2));
    }
    return find_noise_origins(circuit, plan, constants, tables).lookups.at(5);
  };
  const LookupOrigins shifted = second_lookup();
  ASSERT_EQ(shifted.inputs.size(), 1u);
  EXPECT_EQ(shifted.inputs[0].kind, NoiseOrigin::Kind::copied);
  EXPECT_TRUE(shifted.results[0].empty()) << "drawn";
  mark_clear(circuit, {false, false});
  EXPECT_TRUE(second_lookup().inputs.empty()) << "drawn";
  mark_clear(circuit, {false, true});
  std::get<Linear>(circuit.nodes[3].op).terms.pop_back();
  const LookupOrigins same = second_lookup();
  ASSERT_EQ(same.results[0].size(), 1u);
  EXPECT_EQ(same.results[0][0].kind, NoiseOrigin::Kind::copied) << "x twice";
}

// However noisy what is encrypted may be.
TEST(ClearPart, ValuesLeaveWithoutMaskAndNoise) {
  SecretGenerator random;
  const Circuit circuit = with_clear_input();
  const Plan plan =
      make_plan(circuit, {.precision = Precision::tolerant, .tolerance = 0.1}, only(kInsecure));
  const Integers x{{{7, 2}, std::vector<std::int64_t>(14, 3)},
                   {{7, 2}, {-3, -2, -1, 0, 1, 2, 3, -3, -2, -1, 0, 1, 2, 3}}};
  Plan noisy = plan;
  noisy.fresh.value = 0x1p-4;
  const Integers simulated = run_simulated(circuit, noisy, x, 1), exact = run_clear(circuit, x);
  EXPECT_NE(simulated[0], exact[0]);
  EXPECT_EQ(simulated[1], exact[1]);

  const Keys keys = Keys::make({kInsecure}, random);
  std::vector<Torus> phases(14, encode(3, plan.tensors[0].scale, plan.tensors[0].center));
  const std::vector<LweBatch> inputs{expand(encrypt(keys.secret, phases, random)), {}};
  std::vector<std::size_t> done;
  const auto count = [&](std::size_t now, std::size_t all) {
    EXPECT_EQ(all, 14u) << "lookups of encrypted values";
    done.push_back(now);
  };
  const std::vector<LweBatch> results =
      run_encrypted(circuit, plan, keys.evaluation, inputs, count, {}, {}, {{}, x[1]});
  EXPECT_EQ(done.back(), 14u);
  for (std::size_t i = 0; i < 14; ++i) {
    const auto mask = results[1].row(i).first(results[1].dimension.value);
    ASSERT_TRUE(std::ranges::all_of(mask, [](Torus word) { return word == 0; }));
    ASSERT_EQ(decode(results[1].row(i).back(), plan.tensors[3].scale, plan.tensors[3].center,
                     circuit.values[3].interval),
              exact[1].data[i]);
  }
}

// Calibration need not have met every clear value: tables have their end entries for what lies
// beyond, as for phases.
TEST(ClearPart, ValuesBeyondTheirIntervalReadTheEnds) {
  Circuit circuit = with_clear_input();
  auto& table = std::get<Lut>(circuit.nodes[3].op).tables[0];
  circuit.values[2].interval = table.domain = {-100, 200};
  table.entries.assign(301, 0);
  table.entries.back() = 3;
  verify(circuit);
  const Plan plan = make_plan(circuit, {}, only(kInsecure));
  const Integers x{{{1, 2}, {0, 0}}, {{1, 2}, {-3, 3}}};
  EXPECT_EQ(error_of([&] { run_clear(circuit, x); }).code(), ErrorCode::accumulator_out_of_range);
  EXPECT_EQ(run_simulated(circuit, plan, x, 1)[1].data, (std::vector<std::int64_t>{0, 3}));
}

TEST(ClearPart, WrongInputsAreRefused) {
  SecretGenerator random;
  const Circuit circuit = with_clear_input();
  const Plan plan = make_plan(circuit, {}, only(kInsecure));
  const Keys keys = Keys::make({kInsecure}, random);
  const LweBatch x(plan.big_dimension(), 4);
  const auto code = [&](const Integers& clear) {
    return code_of([&] {
      run_encrypted(circuit, plan, keys.evaluation, {x, {}}, {}, {}, {}, clear);
    });
  };
  EXPECT_EQ(code({{}, {{2, 2}, {0, 1, 2, 3}}}), ErrorCode{});
  EXPECT_EQ(code({}), ErrorCode::wrong_shape);
  EXPECT_EQ(code({{}, {}}), ErrorCode::wrong_shape);
  EXPECT_EQ(code({{}, {{1, 2}, {0, 1}}}), ErrorCode::wrong_shape) << "another batch";
  expect_error(ErrorCode::invalid_argument, "element 1 of sample 1 is 4, outside", [&] {
    run_encrypted(circuit, plan, keys.evaluation, {x, {}}, {}, {}, {},
                  {{}, {{2, 2}, {0, 1, 2, 4}}});
  });
}

}  // namespace
}  // namespace torusml
