#include "runtime/clear_part.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "base/testing/errors.h"
#include "circuit/text.h"
#include "plan/testing/circuits.h"
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
  for (std::uint64_t seed = 0; seed < 2000; ++seed) {
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
  EXPECT_GT(lookups, 2000);
  EXPECT_GT(saved, 2000);
  EXPECT_GT(mixed, 200);
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
  EXPECT_EQ(code({{}, {{2, 2}, {0, 1, 2, 4}}}), ErrorCode::invalid_argument);
}

}  // namespace
}  // namespace torusml
