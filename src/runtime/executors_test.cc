#include "runtime/executors.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <random>

#include "base/testing/errors.h"
#include "circuit/passes.h"
#include "circuit/text.h"
#include "parameters/noise.h"
#include "parameters/wide_lookups.h"
#include "parameters/wire_noise.h"
#include "plan/client_spec.h"
#include "plan/testing/circuits.h"
#include "runtime/lookup_table.h"
#include "runtime/noise_origins.h"
#include "runtime/random_circuit.h"
#include "tfhe/result_packing.h"
#include "tfhe/secret_keys.h"
#include "torusml/error.h"

namespace torusml {
namespace {

using Integers = std::vector<Tensor<std::int64_t>>;

// Far below any security level, which only a test may do: a bootstrap takes microseconds.
constexpr TfheParameters kInsecure{.small_dimension = {12},
                                   .glwe_dimension = {1},
                                   .polynomial_size = {256},
                                   .bootstrap = {.base_log2 = 9, .level_count = 4},
                                   .keyswitch = {.base_log2 = 4, .level_count = 6},
                                   .small_variance = {0x1p-56},
                                   .glwe_variance = {0x1p-110}};

// The first rotations that meet a constraint, of those with one table at a time or of all.
std::optional<RotationShape> least_rotation(const NoiseConstraint& c, const KeySet& set,
                                            bool may_share, double& noise) {
  constexpr std::uint32_t kMostExtension = 7;
  const TfheParameters& p = set.parameters;
  for (const RotationShape& shape : rotation_shapes(may_share ? c.tables : 1, kMostExtension)) {
    const std::size_t size = shape.table_size(p.polynomial_size);
    if (size < 2 * c.values) continue;
    const double total =
        noise + set.keyswitch.value + modulus_switch_variance(p.small_dimension, 2 * size).value;
    const double limit = c.limit_sigma - c.table_step_weight / (4.0 * static_cast<double>(size));
    if (limit <= 0 || total > limit * limit) continue;
    noise = total;
    return shape;
  }
  return std::nullopt;
}

// A search that knows one key set: its noise, and the coarsest tables that meet the constraints.
ParameterSearch only(const TfheParameters& parameters, bool may_share = true) {
  return [parameters, may_share](const ParameterRequest& request,
                                 std::string*) -> std::optional<ParameterChoice> {
    ParameterChoice choice;
    choice.key_sets = {make_key_set(parameters)};
    choice.set_of.assign(request.constraints.size(), 0);
    choice.fresh = parameters.glwe_variance;
    const Variance bootstrap = blind_rotation_variance(parameters);
    for (const NoiseConstraint& c : request.constraints) {
      double noise = c.fresh_norm2 * choice.fresh.value + c.bootstrap_norm2 * bootstrap.value;
      RotationShape shape;
      if (c.is_lookup) {
        const auto found = least_rotation(c, choice.key_sets[0], may_share, noise);
        if (!found) return std::nullopt;
        shape = *found;
      } else if (noise > c.limit_sigma * c.limit_sigma) {
        return std::nullopt;
      }
      choice.extension_log2.push_back(shape.extension_log2);
      choice.tables_log2.push_back(shape.tables_log2);
      choice.noise.push_back({noise});
    }
    return choice;
  };
}

// Results as the client decrypts them.
SecretBuffer<Torus> decrypt_results(const SecretKeys& secret,
                                    std::span<const EvaluationKeys> evaluation, const Plan& plan,
                                    const OutputPlan& output, const LweBatch& results) {
  if (!output.packed) return decrypt(secret, results);
  const EvaluationKeys& keys = evaluation[*packing_key_set(plan.key_sets)];
  return decrypt(secret, pack_results(keys, results, output.wire_bits));
}

// Encrypts, runs and decrypts with the plan's encodings.
Integers run_under(const SecretKeys& secret, std::span<const EvaluationKeys> evaluation,
                   const Circuit& circuit, const Plan& plan, const Integers& inputs,
                   SecretGenerator& random) {
  std::vector<LweBatch> encrypted;
  const std::vector<const Node*> nodes = input_nodes(circuit);
  Integers clear(nodes.size());
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    const Input& input = std::get<Input>(nodes[i]->op);
    if (input.is_clear) {
      clear[i] = inputs[i];
      encrypted.emplace_back();
      continue;
    }
    const TensorPlan& tensor = plan.tensors[input.result];
    std::vector<Torus> phases;
    for (std::int64_t value : inputs[i].data)
      phases.push_back(encode(value, tensor.scale, tensor.center));
    encrypted.push_back(expand(encrypt(secret, phases, random)));
  }
  const std::vector<LweBatch> results =
      run_encrypted(circuit, plan, evaluation, encrypted, {}, {}, {}, clear);
  Integers outputs;
  for (const auto& [node, output] : plan.outputs) {
    const ValueId operand = std::get<Output>(circuit.nodes[node].op).operand;
    Tensor<std::int64_t> tensor{{inputs[0].shape[0]}, {}};
    const Shape& sample = circuit.values[operand].shape;
    tensor.shape.insert(tensor.shape.end(), sample.begin(), sample.end());
    const LweBatch& encrypted_results = results[outputs.size()];
    for (Torus phase : decrypt_results(secret, evaluation, plan, output, encrypted_results)) {
      tensor.data.push_back(decode(phase, plan.tensors[operand].scale, plan.tensors[operand].center,
                                   circuit.values[operand].interval));
    }
    outputs.push_back(std::move(tensor));
  }
  return outputs;
}

struct Keys {
  SecretKeys secret;
  std::vector<EvaluationKeys> evaluation;  // by key set

  static Keys make(const std::vector<TfheParameters>& key_sets, SecretGenerator& random) {
    Keys keys{SecretKeys::generate(key_sets[0], random), {}};
    for (const TfheParameters& p : key_sets) {
      keys.evaluation.push_back(
          EvaluationKeys::prepare(make_evaluation_keys(keys.secret, p, random)));
    }
    return keys;
  }
};

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

// Some inputs clear, at times all of them.
TEST(Executors, AgreeOnRandomCircuitsWithClearInputs) {
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
TEST(Executors, ClearValuesLeaveWithoutMaskAndNoise) {
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
TEST(Executors, ClearValuesBeyondTheirIntervalReadTheEnds) {
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

TEST(Executors, WrongClearInputsAreRefused) {
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

Circuit identity_table(std::int64_t lower, std::int64_t upper, std::int64_t elements) {
  Circuit circuit;
  circuit.name = "identity";
  circuit.values = {{{elements}, {lower, upper}}, {{elements}, {lower, upper}}};
  Table table{"id", {lower, upper}, 1, {}, {}};
  for (std::int64_t v = lower; v <= upper; ++v) table.entries.push_back(v);
  circuit.nodes = {{"x", Input{0}}, {"id", Lut{0, {table}, {1}}}, {"y", Output{1}}};
  return circuit;
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
    EXPECT_NE(std::string(error.what()).find("is 12, outside the interval [0, 10]"),
              std::string::npos)
        << error.what();
    EXPECT_NE(error.where().find("fc1"), std::string::npos);
  }
}

// Results are inputs, so that only what they take on their way makes them wrong: as often simulated
// as encrypted, and as a Gaussian of that variance.
void expect_echo_fails_alike(const Circuit& circuit, const Plan& plan) {
  constexpr std::int64_t kSamples = 4000;
  Integers x{{{kSamples, 1}, {}}};
  for (std::int64_t i = 0; i < kSamples; ++i) x[0].data.push_back(i % 14 - 7);  // no ends
  const auto wrong = [&](const Integers& y) {
    double count = 0;
    for (std::size_t i = 0; i < y[0].data.size(); ++i) count += y[0].data[i] != x[0].data[i];
    return count / kSamples;
  };
  const OutputPlan& output = plan.outputs.at(1);
  const double sigma = std::sqrt(wire_noise(plan.key_sets, output.wire_bits, output.packed).value);
  const double expected = std::erfc(plan.tensors[0].scale / 2 / sigma / std::sqrt(2.0));
  EXPECT_GT(expected, 0.05);
  EXPECT_LT(expected, 0.6);
  SecretGenerator random;
  const Keys keys = Keys::make({plan.key_sets[0].parameters}, random);
  EXPECT_NEAR(wrong(run_simulated(circuit, plan, x, 3)), expected, 0.04);
  EXPECT_NEAR(wrong(run_under(keys.secret, keys.evaluation, circuit, plan, x, random)), expected,
              0.04);
}

Circuit echo() {
  Circuit circuit;
  circuit.name = "echo";
  circuit.values = {{{1}, {-8, 7}}};
  circuit.nodes = {{"x", Input{0}}, {"y", Output{0}}};
  return circuit;
}

// Results that are rounded to too few bits fail as often simulated as encrypted.
TEST(Executors, RoundedResultsFailAlike) {
  const Circuit circuit = echo();
  Plan plan = make_plan(circuit, {}, only(kInsecure));
  int& bits = plan.outputs.at(1).wire_bits;
  while (bits > 1 &&
         std::sqrt(wire_noise(plan.key_sets, bits, false).value) < plan.tensors[0].scale / 3)
    --bits;
  expect_echo_fails_alike(circuit, plan);
}

// The same of a trace that is too coarse for these results.
TEST(Executors, PackedResultsFailAlike) {
  const Circuit circuit = echo();
  Plan plan = make_plan(circuit, {}, only(kInsecure));
  plan.key_sets[0].parameters.trace = {.base_log2 = 7, .level_count = 2};
  plan.outputs.at(1).packed = true;
  plan.outputs.at(1).wire_bits = 64;
  expect_echo_fails_alike(circuit, plan);
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

// The interval's ends under tolerant never come back negated from the opposite end.
TEST(Executors, TolerantEndsStayNearTheirEnd) {
  SecretGenerator random;
  constexpr std::int64_t kElements = 64;
  const Circuit circuit = identity_table(-157, 150, kElements);
  const Plan plan = make_plan(circuit, {.precision = Precision::tolerant});
  Integers inputs{{{20, kElements}, {}}};
  for (std::int64_t i = 0; i < 20 * kElements; ++i)
    inputs[0].data.push_back(i % 2 == 0 ? -157 : 150);
  const Integers outputs = run_simulated(circuit, plan, inputs, 1);
  for (std::size_t i = 0; i < outputs[0].data.size(); ++i) {
    ASSERT_NEAR(static_cast<double>(outputs[0].data[i]), static_cast<double>(inputs[0].data[i]),
                20);
  }
}

TEST(Long, TolerantEndsStayNearTheirEndEncrypted) {
  SecretGenerator random;
  const Circuit circuit = identity_table(-157, 150, 512);
  const Plan plan = make_plan(circuit, {.precision = Precision::tolerant});
  const Keys keys = Keys::make(parameters_of(plan.key_sets), random);
  Integers inputs{{{1, 512}, {}}};
  for (std::int64_t i = 0; i < 512; ++i) inputs[0].data.push_back(i % 2 == 0 ? -157 : 150);
  const Integers outputs = run_under(keys.secret, keys.evaluation, circuit, plan, inputs, random);
  for (std::size_t i = 0; i < 512; ++i) {
    ASSERT_NEAR(static_cast<double>(outputs[0].data[i]), static_cast<double>(inputs[0].data[i]),
                20);
  }
}

// Histogram of result - value over an identity table, clipped to [-6, 6].
std::vector<double> error_histogram(const Integers& results, const Integers& inputs) {
  std::vector<double> counts(13, 0);
  for (std::size_t i = 0; i < inputs[0].data.size(); ++i) {
    const std::int64_t error =
        std::clamp<std::int64_t>(results[0].data[i] - inputs[0].data[i], -6, 6);
    counts[static_cast<std::size_t>(error + 6)] += 1;
  }
  return counts;
}

// Two-sample chi-square over the cells with at least 10 counts; returns statistic minus its 1 -
// 1e-6 bound.
double chi_square_excess(const std::vector<double>& a, const std::vector<double>& b) {
  const double total_a = std::accumulate(a.begin(), a.end(), 0.0),
               total_b = std::accumulate(b.begin(), b.end(), 0.0);
  double statistic = 0, cells = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (a[i] + b[i] < 10) continue;
    const double pooled = (a[i] + b[i]) / (total_a + total_b);
    statistic += std::pow(a[i] - total_a * pooled, 2) / (total_a * pooled) +
                 std::pow(b[i] - total_b * pooled, 2) / (total_b * pooled);
    cells += 1;
  }
  const double freedom = cells - 1;
  // Wilson-Hilferty, 4.753 standard deviations: false alarms at 1e-6.
  const double spread = 2.0 / (9.0 * freedom);
  return statistic - freedom * std::pow(1 - spread + 4.753 * std::sqrt(spread), 3);
}

// Results that differ, by table, and values of which some results differ and others do not.
struct Failures {
  std::vector<double> by_output;
  double values = 0, partial = 0;

  Failures(const Integers& results, const Integers& expected) : by_output(results.size(), 0) {
    for (std::size_t i = 0; i < expected[0].data.size(); ++i) {
      std::size_t wrong = 0;
      for (std::size_t o = 0; o < results.size(); ++o) {
        const bool differs = results[o].data[i] != expected[o].data[i];
        by_output[o] += differs ? 1 : 0;
        wrong += differs ? 1 : 0;
      }
      values += wrong != 0 ? 1 : 0;
      partial += wrong != 0 && wrong != results.size() ? 1 : 0;
    }
  }
};

// Wrong results of a circuit at a p_error that can be counted, encrypted and, of ten times as many
// samples, simulated; and the number that the plan predicts.
void expect_failures_as_simulated(const Circuit& circuit, const Plan& plan, const Integers& inputs,
                                  double predicted) {
  SecretGenerator random;
  const Keys keys = Keys::make(parameters_of(plan.key_sets), random);
  const Failures encrypted(run_under(keys.secret, keys.evaluation, circuit, plan, inputs, random),
                           run_clear(circuit, inputs));
  double simulated = 0;
  for (std::uint64_t seed = 0; seed < 10; ++seed) {
    const Failures failures(run_simulated(circuit, plan, inputs, seed), run_clear(circuit, inputs));
    EXPECT_EQ(failures.partial, 0);
    simulated += failures.values / 10;
  }
  testing::Test::RecordProperty("encrypted_over_predicted",
                                std::to_string(encrypted.values / predicted));
  testing::Test::RecordProperty("simulated_over_predicted", std::to_string(simulated / predicted));
  EXPECT_EQ(encrypted.partial, 0);  // all tables of a value are read at one index
  EXPECT_NEAR(encrypted.values, predicted, 5 * std::sqrt(predicted));
  EXPECT_NEAR(simulated, predicted, 5 * std::sqrt(predicted / 10));
}

TEST(Statistical, TablesOfOneValueFailTogether) {
  constexpr std::int64_t kElements = 512, kBatch = 8;
  Circuit circuit = identity_table(0, 7, kElements);
  for (const std::int64_t factor : {3, 5, 7}) {
    Table table{"times" + std::to_string(factor), {0, 7}, 1, {}, {}};
    for (std::int64_t v = 0; v < 8; ++v) table.entries.push_back(factor * v % 8);
    const auto result = static_cast<ValueId>(circuit.values.size());
    circuit.values.push_back(circuit.values[1]);
    auto& lut = std::get<Lut>(circuit.nodes[1].op);
    lut.tables.push_back(std::move(table));
    lut.results.push_back(result);
    circuit.nodes.push_back({"y" + std::to_string(factor), Output{result}});
  }
  const Plan plan = make_plan(circuit, {.p_error = 0x1p-5, .key_set_source = KeySetSource::custom});
  const LookupPlan& lookup = plan.lookups.at(1);
  EXPECT_GT(lookup.rotation.tables_log2, 0u);
  Integers inputs{{{kBatch, kElements}, {}}};
  for (std::int64_t i = 0; i < kBatch * kElements; ++i)
    inputs[0].data.push_back(1 + i % 6);  // a neighbour on either side
  expect_failures_as_simulated(circuit, plan, inputs, kBatch * kElements * lookup.step_probability);
}

// Values beside the step, and beside the border opposite of it.
TEST(Statistical, SignsFailAsOftenAsPredicted) {
  constexpr std::int64_t kElements = 512, kBatch = 16;
  Circuit circuit = identity_table(-8, 7, kElements);
  Table& table = std::get<Lut>(circuit.nodes[1].op).tables[0];
  for (std::size_t i = 0; i < 16; ++i) table.entries[i] = i < 8 ? 0 : 1;
  circuit.values[1].interval = {0, 1};
  const Plan plan = make_plan(circuit, {.p_error = 0x1p-5, .key_set_source = KeySetSource::custom});
  const LookupPlan& lookup = plan.lookups.at(1);
  EXPECT_TRUE(lookup.is_odd);
  Integers inputs{{{kBatch, kElements}, {}}};
  const std::int64_t ends[] = {-8, -1, 0, 7};
  for (std::int64_t i = 0; i < kBatch * kElements; ++i) inputs[0].data.push_back(ends[i % 4]);
  // Each leaves its box to one side; the output may err, too, which two errors undo.
  const double sign = lookup.step_probability / 2, output = plan.outputs.at(2).flip_probability;
  expect_failures_as_simulated(circuit, plan, inputs,
                               kBatch * kElements * (sign + output - 2 * sign * output));
}

TEST(Statistical, TolerantErrorsAreDistributedAsSimulated) {
  constexpr std::int64_t kElements = 512, kBatch = 40;  // 20,480 lookups
  SecretGenerator random;
  const Circuit circuit = identity_table(-157, 150, kElements);
  const Plan plan = make_plan(circuit, {.precision = Precision::tolerant});
  std::mt19937_64 draws(7);
  Integers inputs{{{kBatch, kElements}, {}}};
  for (std::int64_t i = 0; i < kBatch * kElements; ++i) {
    inputs[0].data.push_back(std::uniform_int_distribution<std::int64_t>(-140, 133)(draws));
  }
  const Keys keys = Keys::make(parameters_of(plan.key_sets), random);
  const std::vector<double> encrypted = error_histogram(
      run_under(keys.secret, keys.evaluation, circuit, plan, inputs, random), inputs);
  Integers many = inputs;  // the simulator is cheap: more samples, less noise of its own
  for (int copy = 0; copy < 9; ++copy)
    many[0].data.insert(many[0].data.end(), inputs[0].data.begin(), inputs[0].data.end());
  many[0].shape[0] = 10 * kBatch;
  EXPECT_LT(
      chi_square_excess(encrypted, error_histogram(run_simulated(circuit, plan, many, 1), many)),
      0);

  // The test has the power that it claims: a simulator whose variance is 15 % off is refused.
  Plan wrong = plan;
  const double mask =
      modulus_switch_mask_variance(plan.key_sets[0].parameters.small_dimension,
                                   2 * plan.key_sets[0].parameters.polynomial_size.value)
          .value;
  KeySet& set = wrong.key_sets[0];
  set.keyswitch.value = 1.15 * (set.keyswitch.value + mask) - mask;
  set.bootstrap.value *= 1.15;
  EXPECT_GT(
      chi_square_excess(encrypted, error_histogram(run_simulated(circuit, wrong, many, 1), many)),
      0);
}

}  // namespace
}  // namespace torusml
