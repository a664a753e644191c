#include "lowering/ranges.h"

#include <gtest/gtest.h>

#include "torusml/error.h"

namespace torusml {
namespace {

TEST(DeclaredInterval, IsTheCalibratedOneWithAMargin) {
  EXPECT_EQ(declared_interval({-100, 100}, {-1000, 1000}, 0.05, false), (Interval{-110, 110}));
  EXPECT_EQ(declared_interval({0, 9}, {-50, 1000}, 0.05, false), (Interval{-1, 10}));
  EXPECT_EQ(declared_interval({3, 3}, {-50, 1000}, 0.05, false), (Interval{3, 3}));
  EXPECT_EQ(declared_interval({-100, 100}, {-1000, 1000}, 0, false), (Interval{-100, 100}));
}

TEST(DeclaredInterval, NeverLeavesTheGuaranteedOne) {
  EXPECT_EQ(declared_interval({-100, 100}, {-104, 120}, 0.05, false), (Interval{-104, 110}));
  EXPECT_EQ(declared_interval({-100, 100}, {-104, 105}, 0.05, false), (Interval{-104, 105}));
}

TEST(DeclaredInterval, TakesTheGuaranteedOneOfEqualBits) {
  EXPECT_EQ(declared_interval({-100, 100}, {-128, 127}, 0.05, true), (Interval{-128, 127}));
  EXPECT_EQ(declared_interval({-100, 100}, {-129, 127}, 0.05, true), (Interval{-110, 110}));
}

TEST(SizeBits, CountsValuesNotEnds) {
  EXPECT_EQ(size_bits({0, 0}), 1);
  EXPECT_EQ(size_bits({0, 1}), 1);
  EXPECT_EQ(size_bits({-1, 1}), 2);
  EXPECT_EQ(size_bits({10, 17}), 3);
  EXPECT_EQ(size_bits({0, 65535}), 16);
  EXPECT_EQ(size_bits({-1, 65535}), 17);
}

TEST(ElementRanges, AddUpByWeight) {
  const ElementRanges x{{-1, 0}, {2, 5}};
  ElementRanges y = uniform_ranges(2, {0, 0});
  add_ranges(DenseWeight{2, 2, {1, -2, 0, 3}}, x, y, "fc");
  EXPECT_EQ(y.lower, (std::vector<double>{-11, 0}));
  EXPECT_EQ(y.upper, (std::vector<double>{2, 15}));
  add_ranges(SparseWeight{2, 2, {0, 1, 1}, {0}, {-1}, {0, 1}, {1, 0}}, x, y, "fc");
  EXPECT_EQ(y.lower, (std::vector<double>{-16, 0}));
  add_ranges(ScaleWeight{2}, x, y, "fc");
  EXPECT_EQ(y.upper, (std::vector<double>{6, 25}));
  EXPECT_EQ(y.hull(), (Interval{-18, 25}));
  try {
    add_ranges(ScaleWeight{std::int64_t{1} << 52}, x, y, "fc");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::accumulator_too_wide);
    EXPECT_NE(std::string(error.what()).find("'fc'"), std::string::npos);
  }
}

TEST(ElementRanges, OfTables) {
  const Table table{"t", {-1, 2}, 2, {5, 1, 7, 0, 0, 1, 2, 3}, {0, 1}};
  const ElementRanges y = table_ranges(table, {{-9, 0}, {0, 9}});
  EXPECT_EQ(y.lower, (std::vector<double>{1, 1}));
  EXPECT_EQ(y.upper, (std::vector<double>{5, 3}));
}

TEST(ElementRanges, Measured) {
  const ElementRanges y = measured_ranges({1, 2, -3, 4, 0, 9}, 2);
  EXPECT_EQ(y.lower, (std::vector<double>{-3, 2}));
  EXPECT_EQ(y.upper, (std::vector<double>{1, 9}));
}

}  // namespace
}  // namespace torusml
