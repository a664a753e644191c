#include "tfhe/wide_lookup.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <random>
#include <string>

#include "base/testing/errors.h"
#include "random/test_seed.h"
#include "tfhe/circuit_bootstrap.h"
#include "tfhe/secret_keys.h"
#include "torusml/error.h"

namespace torusml {
namespace {

// Tiny and insecure, almost without noise.
TfheParameters tiny(std::uint32_t size) {
  TfheParameters p;
  p.small_dimension = {10};
  p.glwe_dimension = {1};
  p.polynomial_size = {size};
  p.bootstrap = {10, 4};
  p.keyswitch = {4, 7};
  p.grouping_factor = 2;
  p.small_variance = {std::pow(2.0, -2 * 30)};
  p.glwe_variance = {std::pow(2.0, -2 * 60)};
  p.circuit_bootstrap = {6, 3};
  p.trace = {8, 5};
  return p;
}

struct Keys {
  SecretGenerator random;
  SecretKeys secret;
  EvaluationKeys evaluation;

  explicit Keys(const TfheParameters& parameters)
      : random(TestSeed::make(5)),
        secret(SecretKeys::generate(parameters, random)),
        evaluation(EvaluationKeys::prepare(make_evaluation_keys(secret, random))) {}
};

double torus_distance(Torus a, Torus b) {
  return std::abs(std::ldexp(static_cast<double>(static_cast<std::int64_t>(a - b)), -64));
}

struct Case {
  std::uint32_t size, index_bits, bits_per_rotation, digit_bits, digit_count;
};

// entries, and the torus words that they stand for: entry * 2^(63 - 16).
struct Lookup {
  WideShape shape;
  std::vector<std::uint64_t> entries;
  std::vector<std::vector<Torus>> digit_words;

  explicit Lookup(const Case& c)
      : shape{c.index_bits, c.bits_per_rotation, c.digit_bits, c.digit_count} {
    std::mt19937_64 random(c.index_bits);
    for (std::size_t i = 0; i < std::size_t{1} << c.index_bits; ++i)
      entries.push_back(random() >> (64 - c.digit_bits * c.digit_count));
    for (std::uint32_t s = 0; s < c.digit_count; ++s) {
      digit_words.emplace_back();
      for (std::uint64_t d = 0; d < std::uint64_t{1} << c.digit_bits; ++d)
        digit_words.back().push_back(word(d << (s * c.digit_bits)));
    }
  }
  static Torus word(std::uint64_t entry) { return Torus{entry} << 47; }
};

class WideLookupOf : public testing::TestWithParam<Case> {};

TEST_P(WideLookupOf, GivesTheEntryOfEveryIndex) {
  const Case c = GetParam();
  Keys keys(tiny(c.size));
  const Lookup lookup(c);
  const WideTable table({c.size}, lookup.shape, lookup.entries, lookup.digit_words);
  std::vector<std::size_t> indices;
  const std::size_t values = lookup.entries.size(), stride = std::max<std::size_t>(1, values / 61);
  for (std::size_t i = 0; i < values; i += stride) indices.push_back(i);
  indices.push_back(values - 1);
  std::vector<Torus> phases;
  for (const std::size_t i : indices) phases.push_back(Torus{2 * i + 1} << (62 - c.index_bits));
  const LweBatch inputs = expand(encrypt(keys.secret, phases, keys.random));
  LweBatch outputs(inputs.dimension, inputs.count);
  wide_lookup_batch(keys.evaluation, inputs, std::vector<const WideTable*>(inputs.count, &table),
                    outputs);
  const SecretBuffer<Torus> results = decrypt(keys.secret, outputs);
  for (std::size_t i = 0; i < indices.size(); ++i) {
    ASSERT_LT(torus_distance(results[i], Lookup::word(lookup.entries[indices[i]])), 0x1p-20)
        << "index " << indices[i];
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, WideLookupOf,
                         testing::Values(Case{256, 3, 1, 3, 1}, Case{256, 5, 2, 2, 2},
                                         Case{256, 8, 2, 3, 3}, Case{256, 10, 2, 4, 4},
                                         Case{128, 9, 1, 3, 1}, Case{512, 7, 2, 3, 6}),
                         [](const auto& info) {
                           const Case& c = info.param;
                           return fmt::format("N{}Bits{}By{}Digits{}x{}", c.size, c.index_bits,
                                              c.bits_per_rotation, c.digit_count, c.digit_bits);
                         });

// Bits that are read once serve several tables, and give what they give each alone.
TEST(WideLookup, SeveralTablesReadTheBitsOnce) {
  constexpr std::size_t kCount = 19;
  Keys keys(tiny(256));
  std::vector<WideTable> tables;
  for (const std::uint32_t digits : {2u, 2u, 2u}) {
    Lookup lookup(Case{256, 6, 2, digits, 3});
    std::ranges::rotate(lookup.entries, lookup.entries.begin() + tables.size() * 5);
    tables.emplace_back(PolynomialSize{256}, lookup.shape, lookup.entries, lookup.digit_words);
  }
  std::vector<Torus> phases;
  std::vector<const WideTable*> read;
  for (std::size_t c = 0; c < kCount; ++c) {
    phases.push_back(Torus{2 * (c * 7 % 64) + 1} << 56);
    for (const WideTable& table : tables) read.push_back(&table);
  }
  const LweBatch inputs = expand(encrypt(keys.secret, phases, keys.random));
  std::vector<LweBatch> outputs(tables.size(), LweBatch(inputs.dimension, kCount));
  std::vector<LweBatch*> rooms;
  for (LweBatch& output : outputs) rooms.push_back(&output);
  std::size_t most = 0;
  wide_lookup_batch(keys.evaluation, inputs, read, rooms, [&](std::size_t done, std::size_t total) {
    EXPECT_EQ(total, kCount * tables.size());
    most = std::max(most, done);
  });
  EXPECT_EQ(most, kCount * tables.size());
  for (std::size_t t = 0; t < tables.size(); ++t) {
    LweBatch alone(inputs.dimension, kCount);
    wide_lookup_batch(keys.evaluation, inputs, std::vector<const WideTable*>(kCount, &tables[t]),
                      alone);
    EXPECT_TRUE(std::ranges::equal(alone.words, outputs[t].words)) << t;
  }
}

// What WideTable is made from.
struct TableParts {
  std::uint32_t size = 256;
  WideShape shape{.index_bits = 5, .bits_per_rotation = 2, .digit_bits = 3, .digit_count = 2};
  std::vector<std::uint64_t> entries = std::vector<std::uint64_t>(32, 63);
  std::vector<std::vector<Torus>> digit_words{2, std::vector<Torus>(8)};

  WideTable make() const { return {{size}, shape, entries, digit_words}; }
};

TEST(WideTable, RefusesImpossibleShapesAndEntries) {
  EXPECT_NO_THROW(TableParts().make());
  struct Refusal {
    const char* part;
    std::function<void(TableParts&)> change;
  };
  const Refusal refusals[] = {
      {"0 index bits", [](auto& t) { t.shape.index_bits = 0; }},
      {"17 index bits", [](auto& t) { t.shape.index_bits = 17; }},
      {"0 a rotation", [](auto& t) { t.shape.bits_per_rotation = 0; }},
      {"4 a rotation", [](auto& t) { t.shape.bits_per_rotation = 4; }},
      {"1 index bits, 2 a rotation", [](auto& t) { t.shape.index_bits = 1; }},
      {"digits of 0 bits", [](auto& t) { t.shape.digit_bits = 0; }},
      {"digits of 7 bits", [](auto& t) { t.shape.digit_bits = 7; }},
      {"0 digits", [](auto& t) { t.shape.digit_count = 0; }},
      {"22 digits of 3 bits", [](auto& t) { t.shape.digit_count = 22; }},
      {"digits of 3 bits in polynomials of 8", [](auto& t) { t.size = 8; }},
      {"31 entries for 5 index bits", [](auto& t) { t.entries.pop_back(); }},
      {"33 entries for 5 index bits", [](auto& t) { t.entries.push_back(0); }},
      {"an entry of 64; digits hold 6 bits", [](auto& t) { t.entries.back() = 64; }},
      {"each digit needs a word", [](auto& t) { t.digit_words.pop_back(); }},
      {"each digit needs a word", [](auto& t) { t.digit_words.back().pop_back(); }},
  };
  for (const Refusal& refusal : refusals) {
    TableParts parts;
    refusal.change(parts);
    expect_error(ErrorCode::wrong_shape, refusal.part, [&] { parts.make(); });
  }
}

TEST(WideLookup, RefusesWhatDoesNotFit) {
  const Keys keys(tiny(256));
  TfheParameters plain_parameters = tiny(256);
  plain_parameters.circuit_bootstrap = plain_parameters.trace = {};
  const Keys plain(plain_parameters);
  TableParts other_parts;
  other_parts.shape.bits_per_rotation = 1;
  const WideTable table = TableParts().make(), other = other_parts.make();

  struct Call {
    const Keys* keys;
    LweBatch inputs{{256}, 2}, outputs{{256}, 2};
    std::vector<const WideTable*> tables;
  };
  struct Refusal {
    ErrorCode code;
    const char* part;
    std::function<void(Call&)> change;
  };
  const Refusal refusals[] = {
      {ErrorCode::wrong_key, "no keys for circuit", [&](Call& c) { c.keys = &plain; }},
      {ErrorCode::wrong_key, "dimension 255",
       [](Call& c) {
         c.inputs = {{255}, 2};
       }},
      {ErrorCode::wrong_shape, "dimension 255",
       [](Call& c) {
         c.outputs = {{255}, 2};
       }},
      {ErrorCode::wrong_shape, "room for 3",
       [](Call& c) {
         c.outputs = {{256}, 3};
       }},
      {ErrorCode::wrong_shape, "1 tables", [](Call& c) { c.tables.pop_back(); }},
      {ErrorCode::wrong_shape, "3 tables", [&](Call& c) { c.tables.push_back(&table); }},
      {ErrorCode::wrong_shape, "one shape", [&](Call& c) { c.tables[1] = &other; }},
      {ErrorCode::invalid_argument, "null", [](Call& c) { c.tables[0] = nullptr; }},
      {ErrorCode::invalid_argument, "null", [](Call& c) { c.tables[1] = nullptr; }},
  };
  for (const Refusal& refusal : refusals) {
    Call call{.keys = &keys, .tables = {&table, &table}};
    refusal.change(call);
    expect_error(refusal.code, refusal.part, [&] {
      wide_lookup_batch(call.keys->evaluation, call.inputs, call.tables, call.outputs);
    });
  }
  LweBatch both({256}, 2);
  const std::vector<const WideTable*> tables{&table, &table};
  expect_error(ErrorCode::invalid_argument, "alias",
               [&] { wide_lookup_batch(keys.evaluation, both, tables, both); });
}

TEST(WideLookup, OfNothingIsNothing) {
  const Keys keys(tiny(256));
  const LweBatch inputs({256}, 0);
  LweBatch outputs({256}, 0);
  EXPECT_NO_THROW(wide_lookup_batch(keys.evaluation, inputs, {}, outputs));
}

}  // namespace
}  // namespace torusml
