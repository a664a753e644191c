#include "tfhe/bootstrap.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>

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

}  // namespace
}  // namespace torusml
