#include "tfhe/bootstrap.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <tuple>

#include "base/testing/errors.h"
#include "base/threads.h"
#include "random/test_seed.h"
#include "tfhe/secret_keys.h"
#include "torusml/error.h"

namespace torusml {
namespace {

// Tiny and insecure, with almost no noise: for exhaustive checks of indices and signs.
TfheParameters tiny(std::uint32_t size, std::uint32_t k, std::uint32_t levels) {
  TfheParameters p;
  p.small_dimension = {12};
  p.glwe_dimension = {k};
  p.polynomial_size = {size};
  p.bootstrap = levels == 1 ? Gadget{20, 1} : Gadget{14, 2};
  p.keyswitch = {4, 6};
  p.small_variance = {std::pow(2.0, -2 * 29)};
  p.glwe_variance = {std::pow(2.0, -2 * 55)};
  return p;
}

struct KeyPair {
  SecretKeys secret;
  SeededEvaluationKeys seeded;
  EvaluationKeys evaluation;
  SecretGenerator random;

  static KeyPair make(const TfheParameters& parameters, std::uint64_t seed = 1) {
    SecretGenerator random = TestSeed::make(seed);
    SecretKeys secret = SecretKeys::generate(parameters, random);
    SeededEvaluationKeys seeded = make_evaluation_keys(secret, random);
    EvaluationKeys evaluation = EvaluationKeys::prepare(seeded);
    return {std::move(secret), std::move(seeded), std::move(evaluation), std::move(random)};
  }
};

double torus_distance(Torus a, Torus b) {
  return std::abs(std::ldexp(static_cast<double>(static_cast<std::int64_t>(a - b)), -64));
}

LweBatch bootstrap(const EvaluationKeys& keys, const LweBatch& inputs,
                   const std::vector<const Torus*>& tables, std::uint32_t extension_log2) {
  LweBatch outputs(inputs.dimension, inputs.count);
  bootstrap_batch(keys, inputs, tables, extension_log2, outputs);
  return outputs;
}

struct Shape {
  std::uint32_t size, k, levels, extension_log2;
};

class BootstrapOfShape : public testing::TestWithParam<Shape> {};

// The modulus switch of the mask moves the index by a few positions at most: the result must be a
// table entry near the index of the phase, with the sign of the half that it lies in.
TEST_P(BootstrapOfShape, GivesTheEntryOfEveryIndex) {
  const Shape shape = GetParam();
  const auto keys = KeyPair::make(tiny(shape.size, shape.k, shape.levels));
  const std::size_t period = std::size_t{shape.size} << shape.extension_log2;
  // Eight steps: wide boxes absorb the modulus switch at this tiny size.
  const std::size_t box = period / 8;
  std::vector<Torus> table(period);
  for (std::size_t j = 0; j < period; ++j) table[j] = (j / box * 2 + 1) << 58;
  std::vector<Torus> phases, expected;
  for (std::size_t b = 0; b < 16; ++b) {
    phases.push_back(((2 * b + 1) << 59));
    const Torus entry = ((b % 8) * 2 + 1) << 58;
    expected.push_back(b < 8 ? entry : 0 - entry);
  }
  auto random = TestSeed::make(3);
  const auto inputs = expand(encrypt(keys.secret, phases, random));
  const auto outputs = bootstrap(keys.evaluation, inputs,
                                 std::vector<const Torus*>(16, table.data()), shape.extension_log2);
  const auto results = decrypt(keys.secret, outputs);
  for (std::size_t b = 0; b < 16; ++b) {
    EXPECT_LT(torus_distance(results[b], expected[b]), 1e-3) << "box " << b;
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, BootstrapOfShape,
                         testing::Values(Shape{256, 1, 1, 0}, Shape{256, 1, 2, 0},
                                         Shape{256, 2, 1, 0}, Shape{256, 2, 2, 1},
                                         Shape{256, 3, 1, 0}, Shape{256, 3, 2, 2},
                                         Shape{256, 1, 1, 1}, Shape{256, 1, 1, 2},
                                         Shape{256, 1, 2, 3}, Shape{512, 1, 1, 3}),
                         [](const auto& info) {
                           return fmt::format("N{}k{}l{}h{}", info.param.size, info.param.k,
                                              info.param.levels, info.param.extension_log2);
                         });

// Two key sets that cut one secret into other polynomials and take other beginnings of it: results
// of one go into the other, and into sums with those of the other.
TEST(BootstrapBatch, KeySetsOfOneSecretCompose) {
  const TfheParameters cheap = tiny(256, 2, 1);
  TfheParameters precise = tiny(512, 1, 2);
  precise.small_dimension = {20};
  precise.grouping_factor = 2;
  precise.keyswitch = {3, 9};
  auto random = TestSeed::make(5);
  const SecretKeys secret = SecretKeys::generate(cheap, random);
  const EvaluationKeys first = EvaluationKeys::prepare(make_evaluation_keys(secret, random));
  const EvaluationKeys second =
      EvaluationKeys::prepare(make_evaluation_keys(secret, precise, random));
  // Eight boxes of the half torus; the value b becomes 7 - b, and lands in the middle of its box.
  const auto reversal = [](std::size_t size) {
    std::vector<Torus> table(size);
    for (std::size_t j = 0; j < size; ++j) table[j] = (2 * (7 - j * 8 / size) + 1) << 59;
    return table;
  };
  const std::vector<Torus> small = reversal(256), large = reversal(512);
  std::vector<Torus> phases;
  for (std::size_t b = 0; b < 8; ++b) phases.push_back((2 * b + 1) << 59);
  const LweBatch inputs = expand(encrypt(secret, phases, random));
  const LweBatch once = bootstrap(first, inputs, std::vector<const Torus*>(8, small.data()), 0);
  const LweBatch twice = bootstrap(second, once, std::vector<const Torus*>(8, large.data()), 0);
  LweBatch thrice = bootstrap(first, twice, std::vector<const Torus*>(8, small.data()), 0);
  const SecretBuffer<Torus> of_second = decrypt(secret, twice), of_first = decrypt(secret, thrice);
  for (std::size_t w = 0; w < thrice.words.size(); ++w) thrice.words[w] += twice.words[w];
  const SecretBuffer<Torus> sums = decrypt(secret, thrice);
  for (std::size_t b = 0; b < 8; ++b) {
    EXPECT_LT(torus_distance(of_second[b], (2 * b + 1) << 59), 1e-3) << b;
    EXPECT_LT(torus_distance(of_first[b], (2 * (7 - b) + 1) << 59), 1e-3) << b;
    EXPECT_LT(torus_distance(sums[b], Torus{16} << 59), 2e-3) << b;
  }
}

TEST(BootstrapBatch, KeySetsOfAnotherBigKeyAreRefused) {
  auto random = TestSeed::make(6);
  const SecretKeys secret = SecretKeys::generate(tiny(256, 2, 1), random);
  expect_error(ErrorCode::wrong_key, "dimension 256",
               [&] { make_evaluation_keys(secret, tiny(256, 1, 1), random); });
  TfheParameters noisy = tiny(512, 1, 1);
  noisy.glwe_variance = {0x1p-80};
  expect_error(ErrorCode::wrong_key, "2^-40.00",
               [&] { make_evaluation_keys(secret, noisy, random); });
}

// Each ciphertext has its own table; results depend neither on the batch nor on threads.
TEST(BootstrapBatch, EqualsSingleCalls) {
  const auto keys = KeyPair::make(tiny(128, 1, 2));
  const std::size_t count = 37;
  std::vector<std::vector<Torus>> tables(count, std::vector<Torus>(256));
  std::vector<const Torus*> pointers;
  std::vector<Torus> phases;
  for (std::size_t c = 0; c < count; ++c) {
    for (std::size_t j = 0; j < 256; ++j) tables[c][j] = (c + 1) << 57 | j;
    pointers.push_back(tables[c].data());
    phases.push_back(std::uint64_t{c} << 58);
  }
  auto random = TestSeed::make(8);
  const LweBatch inputs = expand(encrypt(keys.secret, phases, random));
  LweBatch whole;
  whole = bootstrap(keys.evaluation, inputs, pointers, 1);
  for (std::size_t c = 0; c < count; ++c) {
    LweBatch one(inputs.dimension, 1);
    std::copy(inputs.row(c).begin(), inputs.row(c).end(), one.row(0).begin());
    LweBatch result;
    with_threads(1, [&] { result = bootstrap(keys.evaluation, one, {pointers[c]}, 1); });
    ASSERT_TRUE(std::equal(result.row(0).begin(), result.row(0).end(), whole.row(c).begin())) << c;
  }
}

// `count` ciphertexts of the values of 8 boxes in turn, and tables of them that share rotations or
// not; the tables' entries tell table and box.
struct SharedCall {
  static constexpr std::size_t kBoxes = 8;

  SharedCall(const KeyPair& keys, std::size_t count, std::size_t results, RotationShape shape)
      : shape(shape), inputs(make_inputs(keys, count)) {
    const std::size_t entries = shape.table_size(keys.secret.parameters.polynomial_size);
    for (std::size_t t = 0; t < results; ++t) {
      std::vector<Torus>& table = words.emplace_back(entries);
      for (std::size_t i = 0; i < entries; ++i) table[i] = entry(t, i / (entries / kBoxes));
      outputs.emplace_back(inputs.dimension, count);
    }
    for (std::size_t c = 0; c < count; ++c) {
      for (const auto& table : words) tables.push_back(table.data());
    }
    for (LweBatch& output : outputs) rooms.push_back(&output);
  }

  static Torus entry(std::size_t table, std::size_t box) {
    return Torus{(3 * table + box) % 16} << 59;
  }
  static LweBatch make_inputs(const KeyPair& keys, std::size_t count) {
    std::vector<Torus> phases(count);
    for (std::size_t c = 0; c < count; ++c) phases[c] = (2 * (c % kBoxes) + 1) << 59;
    auto random = TestSeed::make(3);
    return expand(encrypt(keys.secret, phases, random));
  }
  void run(const EvaluationKeys& keys, const ProgressCallback& progress = {}) {
    bootstrap_batch(keys, inputs, tables, shape, rooms, progress);
  }

  RotationShape shape;
  LweBatch inputs;
  std::vector<std::vector<Torus>> words;
  std::vector<const Torus*> tables;
  std::vector<LweBatch> outputs;
  std::vector<LweBatch*> rooms;
};

TEST(BootstrapBatch, SeveralTablesShareRotations) {
  for (const auto& [size, k, levels] : {std::tuple{512, 1, 2}, {256, 3, 1}, {1024, 1, 1}}) {
    const auto keys =
        KeyPair::make(tiny(static_cast<std::uint32_t>(size), static_cast<std::uint32_t>(k),
                           static_cast<std::uint32_t>(levels)));
    for (const std::size_t results : {1u, 2u, 3u, 5u}) {
      for (const RotationShape shape : {RotationShape{0, 0}, {0, 1}, {0, 2}, {2, 0}}) {
        SharedCall call(keys, 19, results, shape);
        std::size_t seen = 0;
        call.run(keys.evaluation, [&](std::size_t done, std::size_t total) {
          EXPECT_EQ(total, 19 * results);
          EXPECT_EQ(done, ++seen);
        });
        EXPECT_EQ(seen, 19 * results);
        for (std::size_t t = 0; t < results; ++t) {
          const auto phases = decrypt(keys.secret, call.outputs[t]);
          for (std::size_t c = 0; c < phases.size(); ++c) {
            ASSERT_LT(torus_distance(phases[c], SharedCall::entry(t, c % SharedCall::kBoxes)), 1e-3)
                << size << " table " << t << " of " << results << " at 2^" << shape.tables_log2;
          }
        }
      }
    }
  }
}

// One keyswitch for all tables gives what a keyswitch for each gives.
TEST(BootstrapBatch, TablesApartEqualSeparateCalls) {
  const auto keys = KeyPair::make(tiny(512, 1, 2));
  for (const std::uint32_t extension_log2 : {0u, 1u}) {
    SharedCall call(keys, 11, 3, {extension_log2, 0});
    call.run(keys.evaluation);
    for (std::size_t t = 0; t < 3; ++t) {
      const LweBatch alone =
          bootstrap(keys.evaluation, call.inputs,
                    std::vector<const Torus*>(11, call.words[t].data()), extension_log2);
      EXPECT_TRUE(std::ranges::equal(alone.words, call.outputs[t].words)) << t;
    }
  }
}

TEST(BootstrapBatch, RefusesWhatTablesCannotShare) {
  const auto keys = KeyPair::make(tiny(128, 1, 1));
  struct Refusal {
    ErrorCode code;
    const char* part;
    std::function<void(SharedCall&)> change;
  };
  const Refusal refusals[] = {
      {ErrorCode::invalid_argument, "with extension 2^1",
       [](auto& c) {
         c.shape = {1, 1};
       }},
      {ErrorCode::invalid_argument, "2^8 tables",
       [](auto& c) {
         c.shape = {0, 8};
       }},
      {ErrorCode::invalid_argument, "2^40 tables",
       [](auto& c) {
         c.shape = {0, 40};
       }},
      {ErrorCode::wrong_shape, "no room", [](auto& c) { c.rooms.clear(); }},
      {ErrorCode::wrong_shape, "6 tables for 3 ciphertexts and 1",
       [](auto& c) { c.rooms.pop_back(); }},
      {ErrorCode::wrong_shape, "5 tables", [](auto& c) { c.tables.pop_back(); }},
      {ErrorCode::wrong_shape, "2 results",
       [](auto& c) {
         c.outputs[1] = {c.inputs.dimension, 2};
       }},
      {ErrorCode::invalid_argument, "ciphertext 2", [](auto& c) { c.tables[5] = nullptr; }},
      {ErrorCode::invalid_argument, "table 1 are null", [](auto& c) { c.rooms[1] = nullptr; }},
      {ErrorCode::invalid_argument, "alias each other", [](auto& c) { c.rooms[1] = c.rooms[0]; }},
      {ErrorCode::invalid_argument, "alias inputs", [](auto& c) { c.rooms[1] = &c.inputs; }},
  };
  for (const Refusal& refusal : refusals) {
    SharedCall call(keys, 3, 2, {0, 1});
    refusal.change(call);
    expect_error(refusal.code, refusal.part, [&] { call.run(keys.evaluation); });
  }
}

TEST(BootstrapBatch, ReportsProgress) {
  const auto keys = KeyPair::make(tiny(128, 1, 1));
  const std::vector<Torus> table(128);
  const LweBatch inputs(keys.secret.parameters.big_dimension(), 10);
  LweBatch outputs(inputs.dimension, 10);
  std::vector<std::size_t> seen;
  bootstrap_batch(keys.evaluation, inputs, std::vector<const Torus*>(10, table.data()), 0, outputs,
                  [&](std::size_t done, std::size_t total) {
                    EXPECT_EQ(total, 10u);
                    seen.push_back(done);
                  });
  EXPECT_EQ(seen, (std::vector<std::size_t>{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}));
}

TEST(BootstrapBatch, EmptyBatchIsDone) {
  const auto keys = KeyPair::make(tiny(128, 1, 1));
  LweBatch outputs(keys.secret.parameters.big_dimension(), 0);
  bootstrap_batch(keys.evaluation, outputs, {}, 0, outputs);
  EXPECT_EQ(outputs.count, 0u);
}

TEST(BootstrapBatch, RefusesBadInput) {
  const auto keys = KeyPair::make(tiny(128, 1, 1));
  const LweDimension big = keys.secret.parameters.big_dimension();
  const std::vector<Torus> table(128);
  const std::vector<const Torus*> tables(2, table.data());
  LweBatch inputs(big, 2), outputs(big, 2);
  const auto call = [&](const LweBatch& in, const std::vector<const Torus*>& luts,
                        std::uint32_t extension_log2, LweBatch& out) {
    return [&, extension_log2] { bootstrap_batch(keys.evaluation, in, luts, extension_log2, out); };
  };
  expect_error(ErrorCode::wrong_key, "129", call(LweBatch({129}, 2), tables, 0, outputs));
  LweBatch narrow({127}, 2), few(big, 1);
  expect_error(ErrorCode::wrong_shape, "127", call(inputs, tables, 0, narrow));
  expect_error(ErrorCode::wrong_shape, "1 results", call(inputs, tables, 0, few));
  expect_error(ErrorCode::wrong_shape, "3 tables",
               call(inputs, std::vector<const Torus*>(3, table.data()), 0, outputs));
  expect_error(ErrorCode::invalid_argument, "ciphertext 1",
               call(inputs, {table.data(), nullptr}, 0, outputs));
  expect_error(ErrorCode::invalid_argument, "2^13", call(inputs, tables, 13, outputs));
  expect_error(ErrorCode::invalid_argument, "alias", call(inputs, tables, 0, inputs));

  TfheParameters p;
  p.glwe_dimension = {1};
  p.polynomial_size = {128};
  auto random = TestSeed::make(1);
  const auto secret = SecretKeys::generate(p, random);
  const auto empty = EvaluationKeys::prepare(make_evaluation_keys(secret, random));
  expect_error(ErrorCode::wrong_key, "no bootstrapping key",
               [&] { bootstrap_batch(empty, inputs, tables, 0, outputs); });
}

// 128-bit parameters of the size that the product uses most.
TEST(BootstrapBatch, WorksAtFullSize) {
  TfheParameters p;
  p.small_dimension = {830};
  p.glwe_dimension = {1};
  p.polynomial_size = {2048};
  p.bootstrap = {22, 1};
  p.keyswitch = {3, 5};
  p.small_variance = {std::pow(2.0, 2 * (-0.025696778711484593 * 830 + 2.675931372549016))};
  p.glwe_variance = {std::pow(2.0, 2 * (-0.025696778711484593 * 2048 + 2.675931372549016))};
  const auto keys = KeyPair::make(p);
  std::vector<Torus> table(2048), phases;
  for (std::size_t j = 0; j < table.size(); ++j) table[j] = (j / 128 * 5 % 16) << 59;
  for (std::size_t v = 0; v < 16; ++v) phases.push_back((2 * v + 1) << 58);
  auto random = TestSeed::make(2);
  const LweBatch inputs = expand(encrypt(keys.secret, phases, random));
  const auto outputs =
      bootstrap(keys.evaluation, inputs, std::vector<const Torus*>(16, table.data()), 0);
  const auto results = decrypt(keys.secret, outputs);
  for (std::size_t v = 0; v < 16; ++v) {
    EXPECT_LT(torus_distance(results[v], (v * 5 % 16) << 59), 1e-3) << v;
  }
}

}  // namespace
}  // namespace torusml
