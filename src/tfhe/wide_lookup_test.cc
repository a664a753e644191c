#include "tfhe/wide_lookup.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <random>

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

class WideLookup : public testing::TestWithParam<Case> {};

TEST_P(WideLookup, GivesTheEntryOfEveryIndex) {
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
  wide_lookup_batch(keys.evaluation, inputs,
                    std::vector<const WideTable*>(inputs.count, &table), outputs);
  const std::vector<Torus> results = decrypt(keys.secret, outputs);
  for (std::size_t i = 0; i < indices.size(); ++i) {
    ASSERT_LT(torus_distance(results[i], Lookup::word(lookup.entries[indices[i]])), 0x1p-20)
        << "index " << indices[i];
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, WideLookup,
                         testing::Values(Case{256, 3, 1, 3, 1}, Case{256, 5, 2, 2, 2},
                                         Case{256, 8, 2, 3, 3}, Case{256, 10, 2, 4, 4},
                                         Case{128, 9, 1, 3, 1}, Case{512, 7, 2, 3, 6}),
                         [](const auto& info) {
                           const Case& c = info.param;
                           return fmt::format("N{}Bits{}By{}Digits{}x{}", c.size, c.index_bits,
                                              c.bits_per_rotation, c.digit_count, c.digit_bits);
                         });

}  // namespace
}  // namespace torusml
