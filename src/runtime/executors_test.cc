#include "runtime/executors.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <random>

#include "base/testing/errors.h"
#include "circuit/idle_lookups.h"
#include "circuit/passes.h"
#include "circuit/text.h"
#include "parameters/wide_lookups.h"
#include "runtime/random_circuit.h"
#include "runtime/testing/test_keys.h"
#include "torusml/error.h"

namespace torusml {
namespace {

TEST(Executors, AgreeOnRandomCircuitsAtTestSize) {
  SecretGenerator random;
  const Keys keys = Keys::make({kInsecure}, random);
  std::int64_t lookups = 0, shared = 0, apart = 0, odd = 0;
  for (std::uint64_t seed = 0; seed < 2000; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    RandomCircuit generator(seed);
    const Circuit circuit = generator.make();
    verify(circuit);
    ASSERT_EQ(parse_circuit(print(circuit)), circuit);
    const Integers inputs = generator.make_inputs(circuit, 2);
    const Integers expected = run_clear(circuit, inputs);
    const Circuit rewritten = run_passes(circuit);
    verify(rewritten);
    ASSERT_EQ(run_clear(rewritten, inputs), expected);

    const Plan plan = make_plan(circuit, {.max_exact_bits = 16}, only(kInsecure, seed % 4 != 0));
    ASSERT_EQ(print(parse_plan(print(plan, circuit)), circuit), print(plan, circuit));
    ASSERT_EQ(run_simulated(circuit, plan, inputs, seed), expected)
        << print(circuit) << print(plan, circuit);
    ASSERT_EQ(run_under(keys.secret, keys.evaluation, circuit, plan, inputs, random), expected)
        << print(circuit) << print(plan, circuit);
    lookups += 2 * lookup_count(circuit);
    for (const auto& [node, lookup] : plan.lookups) {
      const std::size_t tables = std::get<Lut>(circuit.nodes[node].op).tables.size();
      if (tables > 1) ++(lookup.rotation.tables_log2 != 0 ? shared : apart);
      odd += lookup.is_odd ? 1 : 0;
    }
  }
  EXPECT_GT(lookups, 10000);
  EXPECT_GT(shared, 500);
  EXPECT_GT(apart, 200);
  EXPECT_GT(odd, 500);
}

TEST(Executors, AgreeOnRandomCircuitsWithoutIdleLookups) {
  SecretGenerator random;
  const Keys keys = Keys::make({kInsecure}, random);
  std::int64_t before = 0, after = 0;
  for (std::uint64_t seed = 0; seed < 2000; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    RandomCircuit generator(seed);
    const Circuit circuit = generator.make();
    const Circuit small = remove_idle_lookups(circuit);
    verify(small);
    ASSERT_EQ(parse_circuit(print(small)), small);
    const Integers inputs = generator.make_inputs(circuit, 2);
    const Integers expected = run_clear(circuit, inputs);
    ASSERT_EQ(run_clear(small, inputs), expected) << print(circuit) << print(small);
    ASSERT_EQ(print(remove_idle_lookups(small)), print(small)) << "nothing is left to remove";
    before += lookup_count(circuit);
    after += lookup_count(small);
    if (seed % 4 != 0) continue;
    const Plan plan = make_plan(small, {.max_exact_bits = 16}, only(kInsecure, false));
    ASSERT_EQ(run_simulated(small, plan, inputs, seed), expected) << print(small);
    ASSERT_EQ(run_under(keys.secret, keys.evaluation, small, plan, inputs, random), expected)
        << print(small);
  }
  EXPECT_LT(after, before * 9 / 10);
  EXPECT_GT(after, before / 10);
}

// A search that gives each lookup one of two key sets by chance.
ParameterSearch either(const std::vector<TfheParameters>& key_sets, std::uint64_t seed) {
  return [=](const ParameterRequest& request, std::string*) {
    std::mt19937_64 random(seed);
    std::vector<std::size_t> set_of;
    for (const NoiseConstraint& c : request.constraints)
      set_of.push_back(c.is_lookup ? random() % key_sets.size() : 0);
    return apply_key_sets(key_sets, set_of, request);
  };
}

// Of the same big key as kInsecure.
constexpr TfheParameters kInsecureSecond{.small_dimension = {16},
                                         .glwe_dimension = {2},
                                         .polynomial_size = {128},
                                         .bootstrap = {.base_log2 = 13, .level_count = 3},
                                         .keyswitch = {.base_log2 = 5, .level_count = 5},
                                         .grouping_factor = 2,
                                         .small_variance = {0x1p-56},
                                         .glwe_variance = {0x1p-110}};

// Results of both sets meet in linear maps, and go from one to the other.
TEST(Executors, AgreeOnRandomCircuitsWithTwoKeySets) {
  SecretGenerator random;
  const std::vector<TfheParameters> key_sets{kInsecure, kInsecureSecond};
  const Keys keys = Keys::make(key_sets, random);
  std::vector<std::int64_t> lookups(2, 0);
  for (std::uint64_t seed = 0; seed < 1000; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    RandomCircuit generator(seed);
    const Circuit circuit = generator.make();
    const Integers inputs = generator.make_inputs(circuit, 2);
    const Integers expected = run_clear(circuit, inputs);
    const Plan plan = make_plan(circuit, {.max_exact_bits = 16}, either(key_sets, seed));
    const std::string text = print(plan, circuit);
    ASSERT_EQ(print(parse_plan(text), circuit), text);
    ASSERT_EQ(run_simulated(circuit, plan, inputs, seed), expected) << print(circuit) << text;
    ASSERT_EQ(run_under(keys.secret, keys.evaluation, circuit, plan, inputs, random), expected)
        << print(circuit) << text;
    const std::vector<std::int64_t> of_plan = lookups_by_key_set(plan, circuit);
    for (std::size_t s = 0; s < 2; ++s) lookups[s] += of_plan[s];
  }
  EXPECT_GT(lookups[0], 1000);
  EXPECT_GT(lookups[1], 1000);
}

// The same with a wide lookup of some shape wherever the key set can do one.
ParameterSearch wide_where_possible(const ParameterSearch& search, std::size_t shape_index) {
  return [=](const ParameterRequest& request, std::string* tightest) {
    std::optional<ParameterChoice> choice = search(request, tightest);
    if (!choice) return choice;
    choice->wide.clear();
    for (std::size_t i = 0; i < request.constraints.size(); ++i) {
      const NoiseConstraint& c = request.constraints[i];
      const std::vector<WideShape> shapes = wide_shapes(c);
      const bool is_wide =
          c.index_bits != 0 && choice->key_set_of(i).parameters.has_circuit_bootstrap();
      choice->wide.push_back(is_wide ? shapes[shape_index % shapes.size()] : WideShape{});
      // Preferable to the same without.
      if (!is_wide) choice->cost_ms_per_core += 1;
    }
    if (!has_wide_lookup(*choice)) choice->cost_ms_per_core += 100;
    return choice;
  };
}

void expect_agreement_with_wide_lookups(
    const std::vector<TfheParameters>& key_sets,
    const std::function<ParameterSearch(std::uint64_t seed)>& search) {
  SecretGenerator random;
  const Keys keys = Keys::make(key_sets, random);
  int wide = 0;
  for (std::uint64_t seed = 0; seed < 800; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    RandomCircuit generator(seed, 1024);
    const Circuit circuit = generator.make();
    const Integers inputs = generator.make_inputs(circuit, 1);
    const Integers expected = run_clear(circuit, inputs);
    const Plan plan = make_plan(circuit, {.max_exact_bits = 16},
                                wide_where_possible(search(seed), static_cast<std::size_t>(seed)));
    for (const auto& [node, lookup] : plan.lookups) wide += lookup.wide.index_bits != 0 ? 1 : 0;
    const std::string text = print(plan, circuit);
    ASSERT_EQ(print(parse_plan(text), circuit), text);
    ASSERT_EQ(run_simulated(circuit, plan, inputs, seed), expected) << print(circuit) << text;
    ASSERT_EQ(run_under(keys.secret, keys.evaluation, circuit, plan, inputs, random), expected)
        << print(circuit) << text;
  }
  EXPECT_GT(wide, key_sets.size() == 1 ? 80 : 40);
}

TEST(Executors, AgreeOnRandomCircuitsWithWideLookups) {
  TfheParameters parameters = kInsecure;
  parameters.circuit_bootstrap = {.base_log2 = 6, .level_count = 3};
  parameters.trace = {.base_log2 = 8, .level_count = 5};
  expect_agreement_with_wide_lookups({parameters}, [&](std::uint64_t) { return only(parameters); });
  const std::vector<TfheParameters> both{parameters, kInsecureSecond};
  expect_agreement_with_wide_lookups(both, [&](std::uint64_t seed) { return either(both, seed); });
}

// Packed and loose results are the same integers.
TEST(Executors, AgreeOnRandomCircuitsWithPackedResults) {
  TfheParameters parameters = kInsecure;
  parameters.trace = {.base_log2 = 8, .level_count = 5};
  SecretGenerator random;
  const Keys keys = Keys::make({parameters}, random);
  int packed = 0, outputs = 0;
  for (std::uint64_t seed = 0; seed < 300; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    RandomCircuit generator(seed);
    const Circuit circuit = generator.make();
    const Integers inputs = generator.make_inputs(circuit, seed % 3 + 1);
    const Integers expected = run_clear(circuit, inputs);
    for (const PackOutputs pack : {PackOutputs::automatic, PackOutputs::off}) {
      const Plan plan =
          make_plan(circuit, {.max_exact_bits = 16, .pack_outputs = pack}, only(parameters));
      for (const auto& [node, output] : plan.outputs) {
        packed += output.packed ? 1 : 0;
        ++outputs;
        ASSERT_FALSE(output.packed && pack == PackOutputs::off);
      }
      const std::string text = print(plan, circuit);
      ASSERT_EQ(print(parse_plan(text), circuit), text);
      ASSERT_EQ(run_simulated(circuit, plan, inputs, seed), expected) << print(circuit) << text;
      ASSERT_EQ(run_under(keys.secret, keys.evaluation, circuit, plan, inputs, random), expected)
          << print(circuit) << text;
    }
  }
  EXPECT_GT(packed, outputs * 2 / 5);
}

// Layers of signs with thresholds of their own, as a binary network has them.
Circuit make_sign_network(std::uint64_t seed, std::int64_t width, int layers) {
  std::mt19937_64 random(seed);
  const auto between = [&](std::int64_t lower, std::int64_t upper) {
    return std::uniform_int_distribution<std::int64_t>(lower, upper)(random);
  };
  Circuit circuit;
  circuit.name = "signs";
  circuit.values.push_back({{width}, {-1, 1}});
  circuit.nodes.push_back({"x", Input{0}});
  for (int layer = 0; layer < layers; ++layer) {
    const auto operand = static_cast<ValueId>(circuit.values.size() - 1);
    DenseWeight weight{width, width, {}};
    for (std::int64_t i = 0; i < width * width; ++i) weight.data.push_back(2 * between(0, 1) - 1);
    Linear linear{{{operand, weight}}, {}, operand + 1};
    for (std::int64_t i = 0; i < width; ++i) linear.bias.push_back(between(-1, 1));
    const Interval interval{-width - 1, width + 1};
    circuit.values.push_back({{width}, interval});
    circuit.nodes.push_back({"fc" + std::to_string(layer), std::move(linear)});
    Table table{"sign" + std::to_string(layer), interval, width, {}, {}};
    for (std::int64_t row = 0; row < width; ++row) {
      const std::int64_t threshold = between(-1, 2);
      for (std::int64_t v = interval.lower; v <= interval.upper; ++v)
        table.entries.push_back(v < threshold ? -1 : 1);
      table.row_of_element.push_back(static_cast<std::uint32_t>(row));
    }
    circuit.values.push_back({{width}, {-1, 1}});
    circuit.nodes.push_back({"sign", Lut{operand + 1, {table}, {operand + 2}}});
  }
  circuit.nodes.push_back({"y", Output{static_cast<ValueId>(circuit.values.size() - 1)}});
  return circuit;
}

TEST(Executors, AgreeOnSignNetworks) {
  SecretGenerator random;
  const Keys keys = Keys::make({kInsecure}, random);
  for (std::uint64_t seed = 0; seed < 100; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    const Circuit circuit = make_sign_network(seed, 4 + static_cast<std::int64_t>(seed % 12), 3);
    verify(circuit);
    const Integers inputs = RandomCircuit(seed).make_inputs(circuit, 3);
    const Integers expected = run_clear(circuit, inputs);
    const Plan plan = make_plan(circuit, {}, only(kInsecure));
    for (const auto& [node, lookup] : plan.lookups) EXPECT_TRUE(lookup.is_odd) << node;
    const std::string text = print(plan, circuit);
    ASSERT_EQ(print(parse_plan(text), circuit), text);
    ASSERT_EQ(run_simulated(circuit, plan, inputs, seed), expected) << print(circuit) << text;
    ASSERT_EQ(run_under(keys.secret, keys.evaluation, circuit, plan, inputs, random), expected)
        << print(circuit) << text;
  }
}

// Nothing but its callback stops a run, and a layer of sums may take as long as one of lookups.
TEST(Executors, LinearLayersAskWhetherToGoOn) {
  SecretGenerator random;
  const Keys keys = Keys::make({kInsecure}, random);
  const std::size_t width = 8;
  const Circuit circuit = make_sign_network(1, width, 3);
  const Plan plan = make_plan(circuit, {}, only(kInsecure));
  const LweBatch x = expand(encrypt(keys.secret, std::vector<Torus>(width), random));
  for (std::size_t lookups = 0; lookups < 3 * width; lookups += width) {
    struct Stop {};
    // The last lookup of a layer reports it as well; what comes before the next one is the sums.
    std::size_t calls = 0;
    const auto progress = [&](std::size_t done, std::size_t) {
      if (done == lookups && ++calls == (lookups == 0 ? 1 : 2)) throw Stop{};
      EXPECT_LE(done, lookups);
    };
    EXPECT_THROW(run_encrypted(circuit, plan, keys.evaluation, {x}, progress), Stop) << lookups;
  }
}

TEST(Long, SignNetworkAt128Bits) {
  SecretGenerator random;
  const Circuit circuit = make_sign_network(1, 15, 2);
  const Plan plan = make_plan(circuit, {});
  for (const auto& [node, lookup] : plan.lookups) EXPECT_TRUE(lookup.is_odd) << node;
  const Keys keys = Keys::make(parameters_of(plan.key_sets), random);
  const Integers inputs = RandomCircuit(1).make_inputs(circuit, 20);
  const Integers expected = run_clear(circuit, inputs);
  EXPECT_EQ(run_simulated(circuit, plan, inputs, 1), expected);
  EXPECT_EQ(run_under(keys.secret, keys.evaluation, circuit, plan, inputs, random), expected);
}

// The plan under the first key set that serves the circuit.
std::optional<std::pair<Plan, const Keys*>> plan_under(const std::vector<Keys>& sets,
                                                       const Circuit& circuit) {
  for (const Keys& keys : sets) {
    try {
      return std::pair{make_plan(circuit, {}, only(keys.secret.parameters)), &keys};
    } catch (const Error& error) {
      if (error.code() != ErrorCode::no_parameters) throw;
    }
  }
  return std::nullopt;
}

TEST(Long, ExecutorsAgreeOnRandomCircuitsAt128Bits) {
  SecretGenerator random;
  std::vector<Keys> sets;  // optimizer-chosen, for circuits of growing difficulty
  for (std::int64_t values : {4, 16, 32, 100}) {
    sets.push_back(Keys::make(
        parameters_of(make_plan(identity_table(0, values - 1, 1), {}).key_sets), random));
  }
  int circuits = 0;
  for (std::uint64_t seed = 0; seed < 800; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    RandomCircuit generator(seed, 16);
    const Circuit circuit = generator.make();
    const auto planned = plan_under(sets, circuit);
    if (!planned) continue;
    const auto& [plan, keys] = *planned;
    const Integers inputs = generator.make_inputs(circuit, 1);
    const Integers expected = run_clear(circuit, inputs);
    ASSERT_EQ(run_simulated(circuit, plan, inputs, seed), expected)
        << print(circuit) << print(plan, circuit);
    ASSERT_EQ(run_under(keys->secret, keys->evaluation, circuit, plan, inputs, random), expected)
        << print(circuit) << print(plan, circuit);
    ++circuits;
  }
  EXPECT_GE(circuits, 200);
}

// 4 bits by one key set into 8 bits by another, as the optimizer chooses them.
TEST(Executors, TwoKeySetsComposeAt128Bits) {
  Circuit circuit = identity_table(0, 15, 120);
  circuit.name = "mixed";
  for (std::int64_t& entry : std::get<Lut>(circuit.nodes[1].op).tables[0].entries) entry *= 4;
  circuit.values[1].interval = {0, 60};
  const Interval sums{0, 4 * 60};
  circuit.values.push_back({{8}, sums});
  circuit.values.push_back({{8}, sums});
  Table table{"large", sums, 1, {}, {}};
  for (std::int64_t v = 0; v <= sums.upper; ++v) table.entries.push_back(sums.upper - v);
  std::vector<std::int64_t> weights(15, 0);
  std::fill_n(weights.begin(), 4, 1);
  circuit.nodes.resize(2);
  circuit.nodes.push_back({"sums", Linear{{{1, DenseWeight{1, 15, weights}}}, {}, 2}});
  circuit.nodes.push_back({"large", Lut{2, {table}, {3}}});
  circuit.nodes.push_back({"y", Output{3}});
  circuit.nodes.push_back({"small", Output{1}});
  const Plan plan = make_plan(circuit, {});
  ASSERT_EQ(plan.key_sets.size(), 2u);
  EXPECT_EQ(lookups_by_key_set(plan, circuit), (std::vector<std::int64_t>{8, 120}));
  SecretGenerator random;
  const Keys keys = Keys::make(parameters_of(plan.key_sets), random);
  Integers inputs{{{1, 120}, {}}};
  for (std::int64_t i = 0; i < 120; ++i) inputs[0].data.push_back(i * i % 16);
  const Integers expected = run_clear(circuit, inputs);
  EXPECT_EQ(run_simulated(circuit, plan, inputs, 1), expected);
  EXPECT_EQ(run_under(keys.secret, keys.evaluation, circuit, plan, inputs, random), expected);
  EXPECT_THROW(
      run_under(keys.secret, std::span(keys.evaluation).first(1), circuit, plan, inputs, random),
      Error);
}

TEST(Executors, ExactWidthsTo8BitsAtTestSize) {
  SecretGenerator random;
  const Keys keys = Keys::make({kInsecure}, random);
  for (int bits = 1; bits <= 8; ++bits) {
    const std::int64_t size = std::int64_t{1} << bits;
    const Circuit circuit = identity_table(-size / 2, size / 2 - 1, size);
    Integers inputs{{{1, size}, {}}};
    for (std::int64_t v = -size / 2; v < size / 2; ++v) inputs[0].data.push_back(v);
    const Plan plan = make_plan(circuit, {}, only(kInsecure));
    EXPECT_EQ(run_under(keys.secret, keys.evaluation, circuit, plan, inputs, random), inputs)
        << bits;
  }
}

TEST(Executors, ClearNamesTheLayerThatLeavesItsInterval) {
  const Circuit circuit = parse_circuit(R"(circuit "narrow"
  %0 = input "x" : tensor<1> [0, 7]
  %1 = linear scale(%0, 2) : tensor<1> [0, 10] "fc1"
  output "y" %1
constants
)");
  EXPECT_EQ(run_clear(circuit, {{{1, 1}, {5}}})[0].data[0], 10);
  try {
    run_clear(circuit, {{{2, 1}, {5, 6}}});
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::accumulator_out_of_range);
    EXPECT_NE(std::string(error.what()).find("of sample 1 is 12, outside the interval [0, 10]"),
              std::string::npos)
        << error.what();
    EXPECT_NE(error.where().find("fc1"), std::string::npos);
  }
}

TEST(Executors, WrongInputsAreRefused) {
  const Circuit circuit = identity_table(0, 3, 2);
  const auto code = [&](const Integers& inputs) {
    try {
      run_clear(circuit, inputs);
    } catch (const Error& error) {
      return error.code();
    }
    return ErrorCode::internal;
  };
  EXPECT_EQ(code({}), ErrorCode::wrong_shape);
  EXPECT_EQ(code({{{2}, {0, 1}}}), ErrorCode::wrong_shape);
  EXPECT_EQ(code({{{0, 2}, {}}}), ErrorCode::wrong_shape);
  EXPECT_EQ(code({{{1, 2}, {0, 4}}}), ErrorCode::invalid_argument);
}

TEST(Executors, IntegersBeyondAnInputsIntervalAreNamed) {
  const Circuit circuit = identity_table(0, 3, 2);
  const Plan plan = make_plan(circuit, {}, only(kInsecure));
  const Integers inputs{{{3, 2}, {0, 1, 2, 3, 4, -5}}};
  const std::string text = "element 0 of sample 2 is 4, outside the input's interval [0, 3]";
  expect_error(ErrorCode::invalid_argument, text, [&] { run_clear(circuit, inputs); });
  expect_error(ErrorCode::invalid_argument, text, [&] { run_simulated(circuit, plan, inputs, 1); });
}

}  // namespace
}  // namespace torusml
