#include "lowering/channels.h"

#include <gtest/gtest.h>

#include <random>

namespace torusml {
namespace {

TEST(Channels, AreAxisOne) {
  const Channels image({1, 3, 4, 5}), neurons({1, 7});
  EXPECT_EQ(image.count, 3);
  EXPECT_EQ(image.of(19), 0U);
  EXPECT_EQ(image.of(20), 1U);
  EXPECT_EQ(image.of(59), 2U);
  EXPECT_EQ(neurons.count, 7);
  EXPECT_EQ(neurons.of(4), 4U);
  EXPECT_EQ(Channels({1}).count, 1);
}

TEST(Channels, HullsAreOverTheirElements) {
  const ElementRanges ranges{{-1, 0, 5, 6}, {0, 2, 5, 9}};
  EXPECT_EQ(channel_hulls(ranges, Channels({1, 2, 2})), (std::vector<Interval>{{-1, 2}, {5, 9}}));
}

TEST(Centring, PutsEveryChannelWithinTheWidest) {
  std::mt19937_64 random(1);
  for (int round = 0; round < 200; ++round) {
    std::vector<Interval> intervals;
    for (int c = 0; c < 6; ++c) {
      const auto lower = static_cast<std::int64_t>(random() % 2000) - 1000;
      intervals.push_back({lower, lower + static_cast<std::int64_t>(random() % 300)});
    }
    const Centring centring = centre(intervals);
    for (std::size_t c = 0; c < intervals.size(); ++c) {
      const std::int64_t below = intervals[c].lower + centring.offset[c] - centring.common.lower;
      const std::int64_t above = centring.common.upper - intervals[c].upper - centring.offset[c];
      EXPECT_GE(below, 0);
      EXPECT_GE(above, 0);
      EXPECT_LE(std::abs(above - below), 1);
    }
  }
}

TEST(ChannelFactors, StayWithinTheIntervalAndTheLongestRow) {
  std::mt19937_64 random(2);
  for (int round = 0; round < 200; ++round) {
    const Channels channels({1, 5});
    DenseWeight dense{5, 4, {}};
    for (int i = 0; i < 20; ++i)
      dense.data.push_back(static_cast<std::int64_t>(random() % 31) - 15);
    for (int i = 0; i < 4; ++i) dense.data[static_cast<std::size_t>(i)] /= 8;
    std::vector<Interval> own;
    for (int c = 0; c < 5; ++c) own.push_back({-3, static_cast<std::int64_t>(random() % 90)});
    const Centring centring = centre(own);
    Weight weight = dense;
    const std::vector<std::int64_t> factors =
        channel_factors(own, centring.common, weight, channels);
    const auto longest = [](const DenseWeight& w) {
      double most = 0;
      for (int r = 0; r < 5; ++r) {
        double norm = 0;
        for (int i = 4 * r; i < 4 * r + 4; ++i) {
          const auto v = static_cast<double>(w.data[static_cast<std::size_t>(i)]);
          norm += v * v;
        }
        most = std::max(most, norm);
      }
      return most;
    };
    scale_rows(weight, factors, channels);
    EXPECT_EQ(longest(std::get<DenseWeight>(weight)), longest(dense));
    for (std::size_t c = 0; c < 5; ++c) {
      const std::int64_t offset = centring_offset(own[c], factors[c], centring.common);
      EXPECT_GE(factors[c], 1);
      EXPECT_GE(factors[c] * own[c].lower + offset, centring.common.lower);
      EXPECT_LE(factors[c] * own[c].upper + offset, centring.common.upper);
    }
  }
}

TEST(ChannelFactors, SparseRowsBelongToTheirChannel) {
  const Channels channels({1, 2, 2});
  Weight weight =
      sparse_weight(1, std::vector<std::int64_t>{0, 1, 2, 3, 4},
                    std::vector<std::int64_t>{0, 0, 0, 0}, std::vector<std::int64_t>{1, 2, 6, 5});
  const std::vector<std::int64_t> factors =
      channel_factors({{0, 2}, {0, 30}}, {0, 30}, weight, channels);
  EXPECT_EQ(factors, (std::vector<std::int64_t>{3, 1})) << "15 would fit the interval, 3 the norm";
  scale_rows(weight, factors, channels);
  std::vector<std::int64_t> scaled;
  for (std::int64_t row = 0; row < 4; ++row)
    scaled.push_back(std::get<SparseWeight>(weight).row(row).value[0]);
  EXPECT_EQ(scaled, (std::vector<std::int64_t>{3, 6, 6, 5}));
}

TEST(ChannelFactors, AreOneWhereChannelsHaveNoRows) {
  const std::vector<Interval> own{{0, 2}, {0, 30}};
  EXPECT_EQ(channel_factors(own, {0, 30}, ScaleWeight{2}, Channels({1, 2})),
            (std::vector<std::int64_t>{1, 1}));
  EXPECT_EQ(channel_factors(own, {0, 30}, DenseWeight{3, 1, {1, 1, 4}}, Channels({1, 2, 3})),
            (std::vector<std::int64_t>{1, 1}));
}

TEST(Rescaled, IsTheTableAtTheNearestInteger) {
  Table table;
  table.domain = {-4, 8};
  for (std::int64_t v = -4; v <= 8; ++v) table.entries.push_back(v * v);
  const Table result = rescaled(table, {3, 1}, {1, 0}, Channels({1, 2}), 2);
  EXPECT_EQ(result.rows, 2);
  for (std::int64_t x = -1; x <= 2; ++x) {
    EXPECT_EQ(result.at(0, 3 * x + 1), x * x);
    EXPECT_EQ(result.at(0, 3 * x), x * x);
    EXPECT_EQ(result.at(0, 3 * x + 2), x * x);
  }
  for (std::int64_t v = -4; v <= 8; ++v) EXPECT_EQ(result.at(1, v), v * v);
}

}  // namespace
}  // namespace torusml
