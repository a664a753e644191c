#include "circuit/sparse_weight.h"

#include <gtest/gtest.h>

#include <random>

namespace torusml {
namespace {

using Entries = std::vector<std::pair<std::int64_t, std::int64_t>>;

Entries entries_of(const SparseRow& row) {
  Entries entries;
  row.for_each(
      [&](std::int64_t column, std::int64_t value) { entries.emplace_back(column, value); });
  return entries;
}

TEST(SparseWeight, RowsComeBackAsTheyWereGiven) {
  std::mt19937_64 random(1);
  for (int turn = 0; turn < 50; ++turn) {
    SparseRows rows(9);
    std::vector<Entries> given(12);
    for (Entries& row : given) {
      for (std::uint64_t e = random() % 4; e > 0; --e) {
        row.emplace_back(static_cast<std::int64_t>(random() % 9),
                         static_cast<std::int64_t>(random() % 3) - 1);
        rows.add(row.back().first, row.back().second);
      }
      rows.end_row();
    }
    const SparseWeight weight = rows.finish();
    ASSERT_EQ(weight.rows, 12);
    ASSERT_EQ(weight.columns, 9);
    std::int64_t entries = 0;
    for (std::int64_t r = 0; r < 12; ++r) {
      EXPECT_EQ(entries_of(weight.row(r)), given[static_cast<std::size_t>(r)]);
      entries += static_cast<std::int64_t>(given[static_cast<std::size_t>(r)].size());
    }
    EXPECT_EQ(weight.entries(), entries);
  }
}

// Two channels of 3 taps over 100 places, without padding: two patterns.
TEST(SparseWeight, AConvolutionTakesTheMemoryOfItsKernel) {
  SparseRows rows(100);
  for (std::int64_t channel = 0; channel < 2; ++channel) {
    for (std::int64_t place = 0; place < 98; ++place) {
      for (std::int64_t tap = 0; tap < 3; ++tap) rows.add(place + tap, 10 * channel + tap);
      rows.end_row();
    }
  }
  const SparseWeight weight = rows.finish();
  EXPECT_EQ(weight.patterns(), 2U);
  EXPECT_EQ(weight.value, (std::vector<std::int64_t>{0, 1, 2, 10, 11, 12}));
  EXPECT_EQ(weight.entries(), 2 * 98 * 3);
}

TEST(SparseWeight, PatternsDifferByValuesOffsetsAndLength) {
  const SparseWeight weight = sparse_weight(4, std::vector<std::int64_t>{0, 2, 4, 6, 7, 7, 7, 9},
                                            std::vector<std::int64_t>{0, 1, 0, 1, 0, 2, 3, 2, 3},
                                            std::vector<std::int64_t>{1, 2, 1, 3, 1, 2, 1, 1, 2});
  EXPECT_EQ(weight.pattern, (std::vector<std::uint32_t>{0, 1, 2, 3, 4, 4, 0}));
  EXPECT_EQ(weight.shift, (std::vector<std::int64_t>{0, 0, 0, 3, 0, 0, 2}));
}

}  // namespace
}  // namespace torusml
