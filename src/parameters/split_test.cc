#include "parameters/split.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "parameters/cost.h"
#include "parameters/noise.h"
#include "parameters/testing/cpu_time.h"
#include "parameters/wide_lookups.h"
#include "torusml/error.h"

namespace torusml {
namespace {

constexpr KeySetSource kSources[] = {KeySetSource::catalogue, KeySetSource::custom};

// Lookups of so many bits at p_error 2^-40, in the encoding with one bit of padding.
NoiseConstraint lookups(int bits, std::uint64_t count, std::vector<SourceNorm> sources) {
  NoiseConstraint c;
  c.name = std::to_string(bits) + " bits";
  c.lookup_count = count;
  c.values = std::uint64_t{1} << bits;
  c.limit_sigma = std::exp2(-(bits + 2)) / kappa(0x1p-40);
  if (bits >= kLeastWideBits) c.index_bits = c.result_bits = static_cast<std::uint32_t>(bits);
  c.sources = std::move(sources);
  for (const SourceNorm& source : c.sources) c.bootstrap_norm2 += source.norm2;
  return c;
}

// Many lookups of 3 bits, which feed each other, and a few of 8 bits, fed by both kinds.
ParameterRequest mixed() {
  return {.constraints = {lookups(3, 200, {{0, 16}, {1, 1}}), lookups(8, 8, {{0, 1}, {1, 4}})}};
}

ParameterRequest uniform(int bits) {
  return {.constraints = {lookups(bits, 200, {{1, 4}}), lookups(bits, 100, {{0, 4}})}};
}

struct Choices {
  std::optional<ParameterChoice> one, two;
};

Choices choose(const ParameterRequest& request, KeySetSource source) {
  Choices choices{choose_key_set(request, source), {}};
  if (choices.one) choices.two = split_key_set(request, *choices.one, *choices.one, source);
  return choices;
}

// Every constraint of a choice of two sets, from the public formulas.
void expect_sound(const ParameterChoice& choice, const ParameterRequest& request) {
  ASSERT_EQ(choice.key_sets.size(), 2u);
  const TfheParameters &first = choice.key_sets[0].parameters,
                       &second = choice.key_sets[1].parameters;
  EXPECT_TRUE(shares_big_key(first, second));
  EXPECT_NE(first, second);
  std::vector<int> served(2, 0);
  double cost = linear_ms(first, request.linear_multiplications, request.cost_table);
  for (std::size_t i = 0; i < request.constraints.size(); ++i) {
    const NoiseConstraint& c = request.constraints[i];
    double noise = c.fresh_norm2 * first.glwe_variance.value;
    for (const SourceNorm& source : c.sources) {
      const std::size_t set = choice.set_of[source.constraint];
      noise += source.norm2 * blind_rotation_variance(choice.key_sets[set].parameters).value;
    }
    double limit = c.limit_sigma;
    if (c.is_lookup) {
      ++served[choice.set_of[i]];
      const TfheParameters& p = choice.key_sets[choice.set_of[i]].parameters;
      const double count = static_cast<double>(c.lookup_count);
      if (const WideShape& wide = choice.wide[i]; wide.index_bits != 0) {
        EXPECT_LE(wide_failure(p, wide, noise), allowed_failure(c)) << c.name;
        cost += count * wide_lookup_ms(p, wide, request.cost_table);
        continue;
      }
      const std::uint64_t size = choice.rotation(i).table_size(p.polynomial_size);
      EXPECT_GE(size, 2 * c.values) << c.name;
      noise +=
          keyswitch_variance(p).value + modulus_switch_variance(p.small_dimension, 2 * size).value;
      limit -= c.table_step_weight / (4 * static_cast<double>(size));
      cost += count * lookup_ms(p, choice.rotation(i), c.tables, request.cost_table);
    }
    EXPECT_LE(std::sqrt(noise), limit * (1 + 1e-9)) << c.name;
  }
  EXPECT_GT(served[0], 0);
  EXPECT_GT(served[1], 0);
  EXPECT_NEAR(choice.cost_ms_per_core, cost, 1e-9 * cost);
  EXPECT_EQ(choice.key_bytes.wire, key_bytes(first).wire + key_bytes(second).wire);
  EXPECT_EQ(choice.key_bytes.memory, key_bytes(first).memory + key_bytes(second).memory);
}

TEST(Split, AMixedCircuitGetsTwoKeySets) {
  for (const KeySetSource source : kSources) {
    const auto [one, two] = choose(mixed(), source);
    ASSERT_TRUE(one && two) << to_string(source);
    expect_sound(*two, mixed());
    EXPECT_TRUE(is_worth_second_key_set(*two, *one));
    EXPECT_EQ(two->set_of, (std::vector<std::size_t>{1, 0}));
    EXPECT_LE(two->cost_ms_per_core, 0.85 * one->cost_ms_per_core);
    for (const KeySet& set : two->key_sets) {
      EXPECT_EQ(set.name, source == KeySetSource::catalogue ? key_set_name(set.parameters)
                                                            : std::string(kCustomKeySet));
    }
    std::printf("%s: %.0f ms with one key set, %.0f with two; keys %.1f and %.1f MB on the wire\n",
                to_string(source).c_str(), one->cost_ms_per_core, two->cost_ms_per_core,
                one->key_bytes.wire * 1e-6, two->key_bytes.wire * 1e-6);
  }
}

TEST(Split, AUniformCircuitKeepsOne) {
  for (const KeySetSource source : kSources) {
    for (const int bits : {2, 4, 6, 8}) {
      const auto [one, two] = choose(uniform(bits), source);
      ASSERT_TRUE(one);
      EXPECT_FALSE(two) << bits;
    }
    // Nearly all the time goes into the demanding lookups.
    const auto [one, two] =
        choose({.constraints = {lookups(3, 2, {{0, 4}}), lookups(8, 100, {{0, 1}})}}, source);
    ASSERT_TRUE(one);
    EXPECT_FALSE(two);
  }
}

TEST(Split, WithoutBootstrapThereIsNothingToSplit) {
  NoiseConstraint output{.name = "y", .is_lookup = false, .fresh_norm2 = 1, .limit_sigma = 0x1p-9};
  EXPECT_FALSE(choose({.constraints = {output}}, KeySetSource::catalogue).two);
}

// A larger class of keys must be worth it, and the caller's limits hold for both sets together.
TEST(Split, KeyBytesCount) {
  ParameterChoice one, two;
  one.key_bytes = two.key_bytes = {100e6, 30e6};
  one.cost_ms_per_core = 100;
  two.cost_ms_per_core = 85;
  EXPECT_TRUE(is_worth_second_key_set(two, one));
  two.cost_ms_per_core = 86;
  EXPECT_FALSE(is_worth_second_key_set(two, one));
  two.key_bytes = {150e6, 50e6};  // the next class
  two.cost_ms_per_core = 66;
  EXPECT_FALSE(is_worth_second_key_set(two, one));
  two.cost_ms_per_core = 65;
  EXPECT_TRUE(is_worth_second_key_set(two, one));

  ParameterRequest request = mixed();
  const auto free = choose(request, KeySetSource::catalogue);
  ASSERT_TRUE(free.two);
  request.max_wire_bytes = free.one->key_bytes.wire + 1;
  const auto limited = choose(request, KeySetSource::catalogue);
  EXPECT_FALSE(limited.two && limited.two->key_bytes.wire > request.max_wire_bytes);
}

// What a cheap set adds to the demanding lookups' noise counts: the cheap set is more precise where
// its results reach them with a large norm.
TEST(Split, NoiseIsCountedBySource) {
  ParameterRequest near = mixed(), far = mixed();
  far.constraints[1].sources[0].norm2 = 0;  // fed by its own kind alone
  far.constraints[1].bootstrap_norm2 = 4;
  near.constraints[1].sources[0].norm2 = 400;
  near.constraints[1].bootstrap_norm2 = 404;
  const auto of_far = choose(far, KeySetSource::custom).two;
  const auto of_near = choose(near, KeySetSource::custom).two;
  ASSERT_TRUE(of_far);
  expect_sound(*of_far, far);
  if (of_near) {
    expect_sound(*of_near, near);
    EXPECT_LT(of_near->key_sets[1].bootstrap.value, of_far->key_sets[1].bootstrap.value);
  }
  // Without knowledge of sources all noise counts as that of the noisier set.
  for (NoiseConstraint& c : far.constraints) c.sources.clear();
  const auto unknown = choose(far, KeySetSource::custom).two;
  EXPECT_FALSE(unknown && unknown->cost_ms_per_core < of_far->cost_ms_per_core);
}

// Chains, branches, widths and counts by chance.
ParameterRequest random_request(std::uint64_t seed, std::size_t kinds) {
  std::mt19937_64 random(seed);
  ParameterRequest request;
  for (std::size_t i = 0; i < kinds; ++i) {
    std::vector<SourceNorm> sources;
    for (std::size_t s = i == 0 ? 0 : 1 + random() % 2; s > 0; --s)
      sources.push_back({random() % i, std::exp2(static_cast<double>(random() % 8))});
    const int bits = 1 + static_cast<int>(random() % 9);
    request.constraints.push_back(lookups(bits, 1 + random() % 300, std::move(sources)));
    request.constraints.back().fresh_norm2 = i == 0 ? 4 : 0;
    // Limits that differ a little, as those of intervals that are no powers of two.
    request.constraints.back().limit_sigma *= 1 - 0.3 * std::ldexp(random() % 1024, -10);
    if (random() % 2 == 0) request.constraints.back().index_bits = 0;
  }
  NoiseConstraint output{.name = "y", .is_lookup = false, .limit_sigma = 0x1p-12};
  output.sources = {{kinds - 1, 2}};
  output.bootstrap_norm2 = 2;
  request.constraints.push_back(output);
  return request;
}

TEST(Split, RandomRequestsAreServedSoundly) {
  int split = 0;
  for (std::uint64_t seed = 0; seed < 60; ++seed) {
    const ParameterRequest request = random_request(seed, 2 + seed % 6);
    for (const KeySetSource source : kSources) {
      if (source == KeySetSource::custom && seed >= 6) continue;
      const auto [one, two] = choose(request, source);
      if (!two) continue;
      SCOPED_TRACE("seed " + std::to_string(seed) + " " + to_string(source));
      expect_sound(*two, request);
      EXPECT_TRUE(is_worth_second_key_set(*two, *one));
      ++split;
    }
  }
  std::printf("%d requests of 66 get two key sets\n", split);
  EXPECT_GT(split, 10);
}

// The best pair of the catalogue over all divisions.
std::optional<ParameterChoice> brute_force(const ParameterRequest& request,
                                           const ParameterChoice& one) {
  std::optional<ParameterChoice> best;
  const std::size_t lookups = request.constraints.size() - 1;  // the last one is an output
  for (std::size_t mask = 1; mask + 1 < std::size_t{1} << lookups; ++mask) {
    std::vector<std::size_t> set_of(request.constraints.size(), 0);
    for (std::size_t i = 0; i < lookups; ++i) set_of[i] = mask >> i & 1;
    for (const TfheParameters& p : catalogue()) {
      for (const TfheParameters& q : catalogue()) {
        if (!shares_big_key(p, q) || p == q) continue;
        const auto pair = apply_key_sets({p, q}, set_of, request);
        if (pair && is_worth_second_key_set(*pair, one) && (!best || is_preferable(*pair, *best)))
          best = pair;
      }
    }
  }
  return best;
}

TEST(Split, IsNearTheBestPairOfTheCatalogue) {
  double log_loss = 0;
  int requests = 0;
  for (std::uint64_t seed = 100; seed < 130; ++seed) {
    const ParameterRequest request = random_request(seed, 3 + seed % 2);
    const auto [one, two] = choose(request, KeySetSource::catalogue);
    if (!one || one->key_sets[0].name == kCustomKeySet) continue;
    const auto best = brute_force(request, *one);
    const double least = best ? best->cost_ms_per_core : one->cost_ms_per_core;
    log_loss += std::log((two ? *two : *one).cost_ms_per_core / least);
    ++requests;
  }
  const double loss = std::exp(log_loss / requests);
  std::printf("%d requests, %.3f times the least cost on average\n", requests, loss);
  EXPECT_GT(requests, 15);
  EXPECT_LT(loss, 1.1);
}

TEST(Split, IsDeterministicAndQuick) {
  ParameterRequest request;
  for (std::size_t i = 0; i < 100; ++i) {
    const double norm2 = 1 + static_cast<double>(i % 7);
    request.constraints.push_back(lookups(1 + static_cast<int>(i % 9), 1000 / (1 + i % 9), {}));
    NoiseConstraint& c = request.constraints.back();
    c.limit_sigma *= 1 - 0.001 * static_cast<double>(i);
    c.bootstrap_norm2 = 2 * norm2;
    c.sources = {{(i + 99) % 100, norm2}, {(i + 90) % 100, norm2}};
  }
  for (const KeySetSource source : kSources) {
    const std::optional<ParameterChoice> one = choose_key_set(request, source);
    ASSERT_TRUE(one);
    ASSERT_EQ(one->key_sets[0].name == kCustomKeySet, source == KeySetSource::custom);
    const double start_ms = cpu_ms();
    const auto a = split_key_set(request, *one, *one, source);
    const double ms = cpu_ms() - start_ms;
    std::printf("%s: %.1f ms for 100 different lookups\n", to_string(source).c_str(), ms);
#ifdef NDEBUG
    EXPECT_LT(ms, source == KeySetSource::catalogue ? 100 : 1500);
#endif
    const auto b = split_key_set(request, *one, *one, source);
    ASSERT_EQ(a.has_value(), b.has_value());
    if (!a) continue;
    EXPECT_EQ(a->key_sets[0].parameters, b->key_sets[0].parameters);
    EXPECT_EQ(a->key_sets[1].parameters, b->key_sets[1].parameters);
    EXPECT_EQ(a->set_of, b->set_of);
  }
}

}  // namespace
}  // namespace torusml
