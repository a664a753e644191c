#include "tfhe/secret_keys.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "base/testing/errors.h"
#include "base/testing/released_secrets.h"
#include "base/threads.h"
#include "random/test_seed.h"
#include "tfhe/bootstrap.h"
#include "tfhe/secret/exact_product.h"
#include "torusml/error.h"

namespace torusml {
namespace {

TfheParameters small_set() {
  TfheParameters p;
  p.small_dimension = {20};
  p.glwe_dimension = {2};
  p.polynomial_size = {64};
  p.bootstrap = {10, 2};
  p.keyswitch = {4, 5};
  p.small_variance = {std::pow(2.0, -2 * 25)};
  p.glwe_variance = {std::pow(2.0, -2 * 50)};
  return p;
}

TfheParameters with_circuit_bootstrap() {
  TfheParameters p = small_set();
  p.glwe_dimension = {1};
  p.circuit_bootstrap = {6, 3};
  p.trace = {8, 4};
  return p;
}

TfheParameters with_trace() {
  TfheParameters p = with_circuit_bootstrap();
  p.circuit_bootstrap = {};
  p.accumulator_bits = 32;
  return p;
}

TfheParameters without_bootstrap() {
  TfheParameters p;
  p.glwe_dimension = {700};
  p.polynomial_size = {1};
  p.glwe_variance = {std::pow(2.0, -2 * 15)};
  return p;
}

double centred(Torus word) {
  return std::ldexp(static_cast<double>(static_cast<std::int64_t>(word)), -64);
}

// One coefficient of sum_r mask_r * key_r modulo X^N + 1.
Torus naive_coefficient(std::span<const Torus> masks, std::span<const std::uint64_t> keys,
                        std::size_t size, std::size_t index) {
  Torus sum = 0;
  for (std::size_t first = 0; first < masks.size(); first += size) {
    for (std::size_t i = 0; i < size; ++i) {
      const Torus product = masks[first + i] * keys[first + (index + size - i) % size];
      sum += i <= index ? product : 0 - product;
    }
  }
  return sum;
}

// Random masks, and the ones whose limbs are largest and all of one sign.
TEST(ExactProduct, EqualsTheNaiveProduct) {
  std::mt19937_64 random(1);
  for (const auto& [size, count] :
       {std::pair{64u, 1u}, {64u, 3u}, {1024u, 2u}, {2048u, 1u}, {8192u, 6u}, {65536u, 1u}}) {
    for (const Torus pattern : {Torus{0}, Torus{0x7ffff7ffffdfffff}, Torus{0x7ffff7ffffe00000}}) {
      std::vector<std::uint64_t> key(size * count, 1);
      std::vector<Torus> masks(size * count, pattern), out(size);
      if (pattern == 0) {
        for (auto& bit : key) bit = random() & 1;
        for (auto& word : masks) word = random();
      }
      const ExactProduct product({size}, key);
      ExactProduct::Scratch scratch(product);
      product.set_sum(masks, out, scratch);
      const std::size_t step = size <= 1024 ? 1 : size / 64 + 1;
      for (std::size_t j = 0; j < size; j += step) {
        ASSERT_EQ(out[j], naive_coefficient(masks, key, size, j)) << "N " << size << " at " << j;
      }
    }
  }
}

TEST(Encrypt, RoundTripsWithTheStatedNoise) {
  for (const auto& parameters : {small_set(), without_bootstrap()}) {
    auto random = TestSeed::make(1);
    const SecretKeys keys = SecretKeys::generate(parameters, random);
    EXPECT_EQ(keys.small().size(), parameters.small_dimension.value);
    std::vector<Torus> phases(3000);
    std::mt19937_64 words(2);
    for (auto& phase : phases) phase = words();
    const SeededLweBatch seeded = encrypt(keys, phases, random);
    const auto decrypted = decrypt(keys, expand(seeded));
    double square = 0;
    for (std::size_t i = 0; i < phases.size(); ++i) {
      const double error = centred(decrypted[i] - phases[i]);
      square += error * error / static_cast<double>(phases.size());
    }
    EXPECT_NEAR(square / parameters.glwe_variance.value, 1, 5 * std::sqrt(2.0 / 3000));
    // Another encryption has another seed and other noise.
    const SeededLweBatch again = encrypt(keys, phases, random);
    EXPECT_NE(again.seed, seeded.seed);
    EXPECT_FALSE(std::ranges::equal(decrypt(keys, expand(again)), decrypted));
  }
}

TEST(Encrypt, EmptyBatchIsEmpty) {
  auto random = TestSeed::make(1);
  const SecretKeys keys = SecretKeys::generate(small_set(), random);
  EXPECT_TRUE(decrypt(keys, expand(encrypt(keys, {}, random))).empty());
}

TEST(Decrypt, RefusesAnotherDimension) {
  auto random = TestSeed::make(1);
  const SecretKeys keys = SecretKeys::generate(small_set(), random);
  expect_error(ErrorCode::wrong_key, "dimension 127", [&] { decrypt(keys, LweBatch({127}, 2)); });
}

TEST(Keys, RefuseMismatchedSizes) {
  auto random = TestSeed::make(1);
  SecretKeys keys = SecretKeys::generate(small_set(), random);
  keys.parameters.polynomial_size = {128};
  const std::vector<Torus> phases(1);
  expect_error(ErrorCode::wrong_key, "128 bits", [&] { encrypt(keys, phases, random); });
  expect_error(ErrorCode::wrong_key, "256", [&] { make_evaluation_keys(keys, random); });
  keys.parameters.polynomial_size = {64};
  keys.parameters.small_dimension = {130};  // longer than the big key
  expect_error(ErrorCode::invalid_argument, "130", [&] { make_evaluation_keys(keys, random); });
}

TEST(Keys, RefuseImpossibleParameters) {
  auto random = TestSeed::make(1);
  const auto refuses = [&](const std::string& part, auto change) {
    TfheParameters p = small_set();
    change(p);
    expect_error(ErrorCode::invalid_argument, part, [&] { SecretKeys::generate(p, random); });
  };
  refuses("size 48", [](auto& p) { p.polynomial_size = {48}; });
  refuses("size 16", [](auto& p) { p.polynomial_size = {16}; });
  refuses("size 65536", [](auto& p) { p.polynomial_size = {65536}; });
  refuses("dimension 0", [](auto& p) { p.glwe_dimension = {0}; });
  refuses("small dimension 0", [](auto& p) { p.small_dimension = {0}; });
  refuses("32 levels of 2", [](auto& p) { p.bootstrap = {2, 32}; });
  refuses("1 levels of 33", [](auto& p) { p.bootstrap = {33, 1}; });
  refuses("0 levels", [](auto& p) { p.keyswitch = {3, 0}; });
  refuses("11 levels of 3", [](auto& p) { p.keyswitch = {3, 11}; });
  refuses("GLWE variance", [](auto& p) { p.glwe_variance = {-1}; });
  refuses("small key's variance", [](auto& p) { p.small_variance = {std::nan("")}; });
  const auto refuses_circuit = [&](const std::string& part, auto change) {
    refuses(part, [&](auto& p) {
      p = with_circuit_bootstrap();
      change(p);
    });
  };
  refuses_circuit("GLWE dimension 2", [](auto& p) { p.glwe_dimension = {2}; });
  refuses_circuit("accumulators of 32 bits", [](auto& p) { p.accumulator_bits = 32; });
  refuses_circuit("8 levels of 8", [](auto& p) { p.circuit_bootstrap = {8, 8}; });
  refuses_circuit("1 levels of 32", [](auto& p) { p.circuit_bootstrap = {32, 1}; });
  refuses_circuit("3 levels of 0", [](auto& p) { p.circuit_bootstrap = {0, 3}; });
  refuses_circuit("'trace' has 0", [](auto& p) { p.trace = {}; });
  refuses_circuit("'trace' has 64 levels of 1", [](auto& p) { p.trace = {1, 64}; });
  refuses_circuit("without bootstrap", [](auto& p) { p.bootstrap = p.keyswitch = {}; });
  EXPECT_NO_THROW(SecretKeys::generate(with_trace(), random));
  refuses("a trace with GLWE dimension 2", [](auto& p) { p.trace = {8, 4}; });
  TfheParameters p = without_bootstrap();
  p.glwe_dimension = {1u << 21};
  expect_error(ErrorCode::invalid_argument, "2097152", [&] { SecretKeys::generate(p, random); });
}

std::vector<Torus> messages(const SecretKeys& keys, std::size_t step) {
  if (keys.parameters.grouping_factor == 1) return {keys.small()[step]};
  const bool s = keys.small()[2 * step] == 1, t = keys.small()[2 * step + 1] == 1;
  return {s && !t, !s && t, s && t};
}

// The upper bytes of a word, the least significant first.
Torus read_body(const std::uint8_t* bytes, std::size_t count) {
  Torus body = 0;
  for (std::size_t i = 0; i < count; ++i) body |= Torus{bytes[i]} << (64 - 8 * (count - i));
  return body;
}

class EvaluationKeysOfGrouping : public testing::TestWithParam<std::uint32_t> {};

INSTANTIATE_TEST_SUITE_P(Groupings, EvaluationKeysOfGrouping, testing::Values(1, 2));

// Every row of the wire form holds the message that its place promises.
TEST_P(EvaluationKeysOfGrouping, RowsEncryptTheirMessages) {
  const std::uint32_t grouping = GetParam();
  TfheParameters p = small_set();
  p.grouping_factor = grouping;
  const std::size_t size = p.polynomial_size.value, k = p.glwe_dimension.value;
  const std::size_t n = p.small_dimension.value;
  auto random = TestSeed::make(9);
  const SecretKeys keys = SecretKeys::generate(p, random);
  const SeededEvaluationKeys evaluation = make_evaluation_keys(keys, random);
  PublicGenerator masks(evaluation.seed);
  std::vector<Torus> mask(k * size);
  const std::uint8_t* bytes = evaluation.bootstrap_bodies.data();
  for (std::size_t step = 0; step < n / grouping; ++step) {
    for (const Torus bit : messages(keys, step)) {
      for (std::uint32_t level = 1; level <= p.bootstrap.level_count; ++level) {
        const Torus message = bit << (64 - p.bootstrap.base_log2 * level);
        for (std::size_t r = 0; r <= k; ++r) {
          masks.fill(mask);
          for (std::size_t j = 0; j < size; ++j, bytes += p.body_bytes()) {
            const Torus phase =
                read_body(bytes, p.body_bytes()) - naive_coefficient(mask, keys.big, size, j);
            const Torus expected = r < k    ? 0 - message * keys.big[r * size + j]
                                   : j == 0 ? message
                                            : 0;
            ASSERT_LT(std::abs(centred(phase - expected)), 9.5 * 0x1p-50) << step << " " << r;
          }
        }
      }
    }
  }
  EXPECT_EQ(bytes, evaluation.bootstrap_bodies.data() + evaluation.bootstrap_bodies.size());
  std::vector<std::uint32_t> words(n);
  for (std::size_t row = 0; row < evaluation.keyswitch_bodies.size(); ++row) {
    masks.fill(words);
    std::uint32_t phase = evaluation.keyswitch_bodies[row];
    for (std::size_t i = 0; i < n; ++i)
      phase -= words[i] * static_cast<std::uint32_t>(keys.small()[i]);
    const std::size_t bit = row / p.keyswitch.level_count,
                      level = row % p.keyswitch.level_count + 1;
    const std::uint32_t expected = static_cast<std::uint32_t>(keys.big[n + bit])
                                   << (32 - p.keyswitch.base_log2 * level);
    ASSERT_LT(std::abs(centred(std::uint64_t{phase - expected} << 32)), 9.5 * 0x1p-25 + 0x1p-32);
  }
  EXPECT_EQ(evaluation.keyswitch_bodies.size(), (k * size - n) * p.keyswitch.level_count);
}

// What the keys of the trace encrypt, before the gadget's factor: -S(X^t) for t = N / 2^i + 1,
// then, with circuit bootstrapping, S^2.
std::vector<std::vector<Torus>> trace_messages(const SecretKeys& keys) {
  const std::size_t size = keys.parameters.polynomial_size.value;
  std::vector<std::vector<Torus>> messages;
  for (std::size_t power = size + 1; power >= 3; power = (power - 1) / 2 + 1) {
    messages.emplace_back(size);
    for (std::size_t j = 0; j < size; ++j) {
      const bool is_negative = j * power / size % 2 == 1;
      messages.back()[j * power % size] = is_negative ? keys.big[j] : 0 - keys.big[j];
    }
  }
  if (!keys.parameters.has_circuit_bootstrap()) return messages;
  messages.emplace_back(size);
  for (std::size_t j = 0; j < size; ++j)
    messages.back()[j] = naive_coefficient(keys.big, keys.big, size, j);
  return messages;
}

class EvaluationKeysWithTrace : public testing::TestWithParam<TfheParameters> {};

INSTANTIATE_TEST_SUITE_P(Sets, EvaluationKeysWithTrace,
                         testing::Values(with_circuit_bootstrap(), with_trace()));

TEST_P(EvaluationKeysWithTrace, RowsEncryptTheirMessages) {
  const TfheParameters& p = GetParam();
  const std::size_t size = p.polynomial_size.value, n = p.small_dimension.value;
  auto random = TestSeed::make(9);
  const SecretKeys keys = SecretKeys::generate(p, random);
  const SeededEvaluationKeys evaluation = make_evaluation_keys(keys, random);
  PublicGenerator masks(evaluation.seed);
  masks.seek(n * p.bootstrap.level_count * 2 * size * sizeof(Torus) +
             (size - n) * p.keyswitch.level_count * n * sizeof(std::uint32_t));
  std::vector<Torus> mask(size);
  const std::uint8_t* bytes = evaluation.trace_bodies.data();
  const auto messages = trace_messages(keys);
  ASSERT_EQ(messages.size(), p.has_circuit_bootstrap() ? 7u : 6u);
  for (std::size_t key = 0; key < messages.size(); ++key) {
    for (std::uint32_t level = 1; level <= p.trace.level_count; ++level) {
      masks.fill(mask);
      for (std::size_t j = 0; j < size; ++j, bytes += p.body_bytes()) {
        const Torus phase =
            read_body(bytes, p.body_bytes()) - naive_coefficient(mask, keys.big, size, j);
        const Torus expected = messages[key][j] << (64 - p.trace.base_log2 * level);
        ASSERT_LT(std::abs(centred(phase - expected)), 9.5 * 0x1p-50) << key << " " << level;
      }
    }
  }
  EXPECT_EQ(bytes, evaluation.trace_bodies.data() + evaluation.trace_bodies.size());
}

TEST(EvaluationKeys, DoNotDependOnThreads) {
  for (const TfheParameters& parameters : {small_set(), with_circuit_bootstrap(), with_trace()}) {
    SeededEvaluationKeys made[2];
    std::size_t calls = 0, last = 0;
    for (const int threads : {1, 0}) {
      with_threads(threads, [&] {
        auto random = TestSeed::make(9);
        const SecretKeys keys = SecretKeys::generate(parameters, random);
        made[threads] =
            make_evaluation_keys(keys, random, [&](std::size_t done, std::size_t total) {
              ++calls;
              EXPECT_EQ(total, 20u);
              last = done;
            });
      });
    }
    EXPECT_EQ(made[0], made[1]);
    EXPECT_EQ(made[0].trace_bodies.empty(), !parameters.has_trace());
    EXPECT_EQ(calls, 40u);
    EXPECT_EQ(last, 20u);
  }
}

TEST(EvaluationKeys, WithoutBootstrapAreEmpty) {
  auto random = TestSeed::make(9);
  const SecretKeys keys = SecretKeys::generate(without_bootstrap(), random);
  const SeededEvaluationKeys made = make_evaluation_keys(keys, random);
  EXPECT_TRUE(made.bootstrap_bodies.empty() && made.keyswitch_bodies.empty() &&
              made.trace_bodies.empty());
  EXPECT_EQ(EvaluationKeys::prepare(made).bytes(), 0u);
}

TEST(EvaluationKeys, PrepareRefusesWrongSizes) {
  auto random = TestSeed::make(9);
  const SecretKeys keys = SecretKeys::generate(small_set(), random);
  const SeededEvaluationKeys made = make_evaluation_keys(keys, random);
  auto short_bootstrap = made;
  short_bootstrap.bootstrap_bodies.pop_back();
  expect_error(ErrorCode::wrong_key, "53759", [&] { EvaluationKeys::prepare(short_bootstrap); });
  auto long_keyswitch = made;
  long_keyswitch.keyswitch_bodies.push_back(0);
  expect_error(ErrorCode::wrong_key, "541", [&] { EvaluationKeys::prepare(long_keyswitch); });
  auto with_trace = made;
  with_trace.trace_bodies.resize(7);
  expect_error(ErrorCode::wrong_key, "and 7 bytes", [&] { EvaluationKeys::prepare(with_trace); });
  auto foreign = made;
  foreign.parameters.bootstrap.level_count = 1;
  expect_error(ErrorCode::wrong_key, "26880", [&] { EvaluationKeys::prepare(foreign); });
  auto impossible = made;
  impossible.parameters.polynomial_size = {63};
  expect_error(ErrorCode::invalid_argument, "63", [&] { EvaluationKeys::prepare(impossible); });
}

TEST(EvaluationKeys, PrepareRefusesWrongSizesOfTheTrace) {
  auto random = TestSeed::make(9);
  const SecretKeys keys = SecretKeys::generate(with_circuit_bootstrap(), random);
  const SeededEvaluationKeys made = make_evaluation_keys(keys, random);
  EXPECT_NO_THROW(EvaluationKeys::prepare(made));
  ASSERT_EQ(made.trace_bodies.size(), 7u * 4 * 64 * made.parameters.body_bytes());
  auto short_trace = made;
  short_trace.trace_bodies.pop_back();
  expect_error(ErrorCode::wrong_key, std::to_string(short_trace.trace_bodies.size()),
               [&] { EvaluationKeys::prepare(short_trace); });
  auto foreign = made;
  foreign.parameters.trace.level_count = 3;
  expect_error(ErrorCode::wrong_key, std::to_string(made.trace_bodies.size() * 3 / 4),
               [&] { EvaluationKeys::prepare(foreign); });
}

// Each secret block that these functions hold is zero when it is freed.
TEST(Keys, AreWiped) {
  const ReleasedSecrets released;
  {
    auto random = TestSeed::make(9);
    const SecretKeys keys = SecretKeys::generate(with_circuit_bootstrap(), random);
    make_evaluation_keys(keys, random);
    encrypt(keys, std::vector<Torus>(10), random);
  }
  EXPECT_GE(released.bytes(), 64 * sizeof(std::uint64_t));
  EXPECT_EQ(released.not_zero(), 0u);
}

}  // namespace
}  // namespace torusml
