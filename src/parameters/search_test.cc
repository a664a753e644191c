#include "parameters/search.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <memory>
#include <sstream>

#include "parameters/testing/concrete_model.h"

namespace torusml {
namespace {

constexpr double kLevelledWeights = 4096;

NoiseConstraint lookup(int bits, double norm_log2, double p_error_log2) {
  NoiseConstraint c;
  c.bootstrap_norm2 = std::exp2(2 * norm_log2);
  c.lookup_count = 1;
  c.values = 1;  // the peer asks nothing of the table's size
  c.limit_sigma = std::exp2(-(bits + 2)) / kappa(std::exp2(p_error_log2));
  return c;
}

// The rest of a row of the file; the cost to one digit, or cut to an integer, as `like` has it.
std::string row_text(const std::optional<SearchResult>& found, const std::string& like) {
  if (!found) return "none";
  const TfheParameters& p = found->parameters;
  const bool has_point = like.find('.') != std::string::npos;
  const double cost = found->cost / 0x1p20;
  return fmt::format("{} {} {} {} {} {} {} {}", p.glwe_dimension.value,
                     std::bit_width(p.polynomial_size.value) - 1, p.small_dimension.value,
                     p.bootstrap.level_count, p.bootstrap.base_log2, p.keyswitch.level_count,
                     p.keyswitch.base_log2,
                     has_point ? fmt::format("{:.1f}", cost) : fmt::format("{}", std::floor(cost)));
}

TEST(Search, ReproducesConcretesChoices) {
  std::ifstream file(TORUSML_SOURCE_DIR "/src/parameters/testdata/concrete_choices.txt");
  ASSERT_TRUE(file);
  const Search search(std::make_unique<ConcreteModel>());
  int rows = 0;
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with('#')) continue;
    std::istringstream words(line);
    double p_error_log2 = 0, norm_log2 = 0;
    int bits = 0;
    std::string expected;
    words >> p_error_log2 >> bits >> norm_log2 >> std::ws;
    std::getline(words, expected);
    const auto found = search.run({.constraints = {lookup(bits, norm_log2, p_error_log2)},
                                   .linear_multiplications = kLevelledWeights});
    EXPECT_EQ(row_text(found, expected), expected) << line;
    ++rows;
  }
  EXPECT_EQ(rows, 234);
}

TEST(Search, KeyLimitsBind) {
  class Limited final : public SearchModel {
   public:
    const Domain& domain() const override { return inner_.domain(); }
    std::uint32_t max_bootstrap_bits(const TfheParameters& ring) const override {
      return inner_.max_bootstrap_bits(ring);
    }
    Variance small_variance(std::uint32_t n) const override { return inner_.small_variance(n); }
    double rotation_variance(const TfheParameters& p) const override {
      return inner_.rotation_variance(p);
    }
    std::uint32_t max_small_dimension(const TfheParameters& ring) const override {
      return inner_.max_small_dimension(ring);
    }
    Line keyswitch_variance(const TfheParameters& p) const override {
      return inner_.keyswitch_variance(p);
    }
    Line switch_variance(std::uint64_t m) const override { return inner_.switch_variance(m); }
    double rotation_cost(const TfheParameters& p) const override { return inner_.rotation_cost(p); }
    double expected_shards(std::uint32_t g, std::uint32_t h) const override {
      return inner_.expected_shards(g, h);
    }
    double keyswitch_cost(const TfheParameters& p) const override {
      return inner_.keyswitch_cost(p);
    }
    double linear_cost(const TfheParameters& p, double m) const override {
      return inner_.linear_cost(p, m);
    }
    KeyBytes key_bytes(const TfheParameters& p) const override {
      return {1.0 * p.small_dimension.value, 1.0 * p.keyswitch.level_count};
    }

   private:
    ConcreteModel inner_;
  };
  const Search search(std::make_unique<Limited>());
  const SearchRequest request{.constraints = {lookup(4, 0, -40)}};
  const auto found = search.run(
      request, {kAnyKeyBytes, {740, kAnyKeyBytes.wire}, {kAnyKeyBytes.memory, 3}, {1, 1}});
  ASSERT_TRUE(found[0] && found[1] && found[2]);
  EXPECT_FALSE(found[3]);
  EXPECT_GT(found[0]->parameters.small_dimension.value, 740u);
  EXPECT_LE(found[1]->parameters.small_dimension.value, 740u);
  EXPECT_GT(found[0]->parameters.keyswitch.level_count, 3u);
  EXPECT_LE(found[2]->parameters.keyswitch.level_count, 3u);
  EXPECT_LT(found[0]->cost, std::min(found[1]->cost, found[2]->cost));
}

}  // namespace
}  // namespace torusml
