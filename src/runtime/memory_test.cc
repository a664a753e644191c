#include "runtime/memory.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <optional>
#include <string>

#include "base/peak_memory.h"
#include "circuit/text.h"
#include "runtime/executors.h"
#include "tfhe/memory_use.h"
#include "tfhe/secret_keys.h"
#include "tfhe/testing/insecure_parameters.h"
#include "torusml/error.h"

namespace torusml {
namespace {

// Encodings of no particular precision: memory does not depend on them.
Plan make_rough_plan(const Circuit& circuit, std::uint32_t extension_log2) {
  Plan plan;
  plan.key_sets = {make_key_set(kInsecure)};
  plan.tensors.resize(circuit.values.size(), {.scale = 0x1p-10});
  for (std::size_t n = 0; n < circuit.nodes.size(); ++n) {
    if (std::holds_alternative<Lut>(circuit.nodes[n].op))
      plan.lookups[n].rotation.extension_log2 = extension_log2;
    else if (std::holds_alternative<Output>(circuit.nodes[n].op))
      plan.outputs[n] = {};
  }
  return plan;
}

// x, a linear layer of `elements`, a lookup with a row of its table for each element, y. With
// `residual` the layer's result is read again after the lookup.
Circuit make_network(std::int64_t elements, bool residual = false) {
  Circuit circuit;
  circuit.name = "network";
  const TensorType type{{elements}, {0, 3}};
  circuit.values.assign(4, type);
  const std::vector<std::int64_t> ones(static_cast<std::size_t>(elements * elements), 1);
  Table table{"t", type.interval, elements, {}, {}};
  for (std::int64_t e = 0; e < elements; ++e) {
    table.entries.insert(table.entries.end(), {0, 1, 2, 3});
    table.row_of_element.push_back(static_cast<std::uint32_t>(e));
  }
  Linear sum{{{2, ScaleWeight{1}}}, {}, 3};
  if (residual) sum.terms.push_back({1, ScaleWeight{1}});
  circuit.nodes = {{"x", Input{0}},
                   {"fc", Linear{{{0, DenseWeight{elements, elements, ones}}}, {}, 1}},
                   {"relu", Lut{1, {table}, {2}}},
                   {"sum", std::move(sum)},
                   {"y", Output{3}}};
  return circuit;
}

std::uint64_t of_tensor(std::uint64_t elements) { return ciphertext_bytes(kInsecure, elements); }

TEST(MemoryEstimate, CountsWhatIsAliveAtEachLayer) {
  const Circuit circuit = make_network(100);
  const Plan plan = make_rough_plan(circuit, 0);
  const MemoryEstimate estimate = estimate_memory(circuit, plan, {});
  // Input and output, then the lookup's operand and result.
  EXPECT_EQ(estimate.layer, "relu");
  EXPECT_EQ(estimate.ciphertexts, 4 * of_tensor(100));
  EXPECT_EQ(estimate.keys, prepared_key_bytes(kInsecure));
  EXPECT_EQ(estimate.tables, 100 * 256 * 8 + 2 * 100 * 8u);  // and two layers' constants
  EXPECT_EQ(estimate.scratch, 100 * 8 + bootstrap_scratch_bytes(kInsecure, 0, 100, 1));
  EXPECT_EQ(estimate.total(),
            estimate.keys + estimate.ciphertexts + estimate.tables + estimate.scratch);

  // Clear values are integers; ciphertexts are made of those that leave.
  Circuit clear = circuit;
  mark_clear(clear, {true});
  const MemoryEstimate of_clear = estimate_memory(clear, plan, {});
  EXPECT_EQ(of_clear.layer, "y");
  EXPECT_EQ(of_clear.ciphertexts, 2 * of_tensor(100) + 2 * 100 * 8);

  // The operand that is read again is copied for the lookup.
  const MemoryEstimate again = estimate_memory(make_network(100, true), plan, {});
  EXPECT_EQ(again.ciphertexts, 5 * of_tensor(100));
}

// All tables of a value stand in memory together; they are shorter where they share a rotation.
TEST(MemoryEstimate, CountsAllTablesOfAValue) {
  Circuit circuit = make_network(100);
  auto& lut = std::get<Lut>(circuit.nodes[2].op);
  for (const char* name : {"u", "v", "w"}) {
    lut.tables.push_back(lut.tables.front());
    lut.tables.back().name = name;
    lut.results.push_back(static_cast<ValueId>(circuit.values.size()));
    circuit.values.push_back(circuit.values[2]);
  }
  Plan plan = make_rough_plan(circuit, 0);
  const MemoryEstimate apart = estimate_memory(circuit, plan, {});
  EXPECT_EQ(apart.layer, "relu");
  EXPECT_EQ(apart.tables, 4 * 100 * 256 * 8 + 2 * 100 * 8u);
  EXPECT_EQ(apart.scratch, 4 * 100 * 8 + bootstrap_scratch_bytes(kInsecure, 0, 100, 1, 4));
  plan.lookups[2].rotation.tables_log2 = 2;
  EXPECT_EQ(estimate_memory(circuit, plan, {}).tables, 4 * 100 * 64 * 8 + 2 * 100 * 8u);
}

TEST(MemoryEstimate, GrowsWithBatchSamplesThreadsAndTables) {
  const Circuit circuit = make_network(20);
  const Plan plan = make_rough_plan(circuit, 0);
  const std::uint64_t least = estimate_memory(circuit, plan, {}).total();
  EXPECT_GT(estimate_memory(circuit, plan, {.batch = 2}).total(), least);
  EXPECT_GT(estimate_memory(circuit, plan, {.at_once = 2}).total(), least);
  EXPECT_GT(estimate_memory(circuit, plan, {.threads = 2}).total(), least);
  const MemoryEstimate large = estimate_memory(circuit, make_rough_plan(circuit, 8), {});
  EXPECT_EQ(large.tables, 20 * (256 << 8) * 8 + 2 * 20 * 8u);
}

TEST(MemoryLimit, SmallerPartsComeBeforeRefusal) {
  const Circuit circuit = make_network(64);
  const Plan plan = make_rough_plan(circuit, 0);
  constexpr std::size_t kBatch = 40;
  const auto bytes = [&](std::size_t at_once) {
    return estimate_memory(circuit, plan, {kBatch, at_once, 1}).total();
  };
  const auto chosen = [&](std::uint64_t limit) {
    return choose_samples_at_once(circuit, plan, kBatch, {1, limit});
  };
  EXPECT_EQ(chosen(0), 32u);  // 2048 ciphertexts
  EXPECT_EQ(chosen(bytes(32)), 32u);
  EXPECT_EQ(chosen(bytes(7)), 7u);
  EXPECT_EQ(chosen(bytes(1)), 1u);
  try {
    chosen(bytes(1) - 1);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::memory_limit_exceeded);
    EXPECT_EQ(error.where(), "layer 'relu'");
    EXPECT_NE(error.message().find("a batch of 40 on one thread takes about"), std::string::npos)
        << error.what();
    const auto fits = [&](std::size_t batch) {
      return estimate_memory(circuit, plan, {batch, 1, 1}).total() < bytes(1);
    };
    std::size_t largest = kBatch;
    while (!fits(largest)) --largest;
    EXPECT_EQ(error.hint(), "a batch of " + std::to_string(largest) + " or less");
  }
}

TEST(MemoryLimit, NamesTheWayOut) {
  const Circuit circuit = make_network(64);
  const Plan plan = make_rough_plan(circuit, 0);
  const std::uint64_t least = estimate_memory(circuit, plan, {}).total();
  const auto hint = [&](const Limits& limits) {
    try {
      choose_samples_at_once(circuit, plan, 8, limits);
    } catch (const Error& error) {
      return error.hint();
    }
    return std::string();
  };
  EXPECT_NE(hint({1, least - 1}).find("one sample on one thread takes that much"),
            std::string::npos);
  EXPECT_THROW(choose_samples_at_once(circuit, plan, 8, {-1, 0}), Error);
}

TEST(MemoryLimit, Keys) {
  const std::uint64_t wire = seeded_key_bytes(kInsecure), ready = prepared_key_bytes(kInsecure);
  EXPECT_NO_THROW(check_key_memory({kInsecure}, 0, {}));
  EXPECT_NO_THROW(check_key_memory({kInsecure}, 0, {0, wire + ready}));
  EXPECT_NO_THROW(check_key_memory({kInsecure, kInsecure}, 0, {0, 2 * (wire + ready)}));
  EXPECT_THROW(check_key_memory({kInsecure, kInsecure}, 0, {0, 2 * (wire + ready) - 1}), Error);
  for (const std::uint64_t held : {std::uint64_t{0}, ready}) {
    try {
      check_key_memory({kInsecure}, held, {0, held + wire + ready - 1});
      FAIL();
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::memory_limit_exceeded);
      EXPECT_EQ(error.where(), "evaluation keys");
      EXPECT_EQ(error.message().find("earlier keys") != std::string::npos, held != 0);
    }
  }
}

struct Encrypted {
  std::vector<EvaluationKeys> keys;
  std::vector<LweBatch> inputs;
};

Encrypted encrypt_zeros(const Circuit& circuit, std::size_t batch) {
  SecretGenerator random;
  const SecretKeys secret = SecretKeys::generate(kInsecure, random);
  const auto elements = static_cast<std::size_t>(number_of_elements(circuit.values[0].shape));
  Encrypted result;
  result.keys.push_back(EvaluationKeys::prepare(make_evaluation_keys(secret, random)));
  result.inputs.push_back(expand(encrypt(secret, std::vector<Torus>(batch * elements, 0), random)));
  return result;
}

TEST(MemoryLimit, ChangesNoResult) {
  const Circuit circuit = make_network(30, true);
  const Plan plan = make_rough_plan(circuit, 1);
  const Encrypted x = encrypt_zeros(circuit, 9);
  const auto run = [&](const Limits& limits) {
    return run_encrypted(circuit, plan, x.keys, x.inputs, {}, limits);
  };
  const std::vector<LweBatch> expected = run({});
  const std::uint64_t two_at_once = estimate_memory(circuit, plan, {9, 2, 1}).total();
  for (const Limits& limits : {Limits{1, 0}, Limits{2, 0}, Limits{1, two_at_once}}) {
    EXPECT_TRUE(std::ranges::equal(run(limits)[0].words, expected[0].words));
  }
  EXPECT_THROW(run({0, 1}), Error);
  EXPECT_THROW(run({-2, 0}), Error);
}

struct Load {
  const char* name;
  std::int64_t elements;
  std::size_t batch;
  std::uint32_t extension_log2;
};

// Against the memory that the process really takes.
TEST(MemoryEstimate, IsNearWhatARunTakes) {
#if defined(__SANITIZE_ADDRESS__)
  GTEST_SKIP() << "the address sanitizer keeps freed memory";
#endif
  for (const Load& load : {Load{"ciphertexts", 256, 120, 0}, Load{"tables", 400, 1, 6}}) {
    const Circuit circuit = make_network(load.elements);
    const Plan plan = make_rough_plan(circuit, load.extension_log2);
    const Encrypted x = encrypt_zeros(circuit, load.batch);
    const auto growth =
        peak_growth([&] { run_encrypted(circuit, plan, x.keys, x.inputs, {}, {.threads = 1}); });
    if (!growth) GTEST_SKIP() << "no peak of resident memory on this system";
    const std::size_t at_once = choose_samples_at_once(circuit, plan, load.batch, {1, 0});
    const MemoryEstimate estimate = estimate_memory(circuit, plan, {load.batch, at_once, 1});
    // Keys and inputs were there before.
    const std::uint64_t elements = load.batch * static_cast<std::uint64_t>(load.elements);
    const double expected =
        static_cast<double>(estimate.total() - estimate.keys - of_tensor(elements));
    EXPECT_GT(expected, 5e7) << load.name;
    EXPECT_GT(static_cast<double>(*growth), 0.75 * expected) << load.name;
    EXPECT_LT(static_cast<double>(*growth), 1.15 * expected) << load.name;
    RecordProperty(load.name, std::to_string(static_cast<double>(*growth) / expected));
    std::printf("%s: %.1f MB foreseen, %.1f MB taken\n", load.name, expected * 1e-6,
                static_cast<double>(*growth) * 1e-6);
  }
}

}  // namespace
}  // namespace torusml
