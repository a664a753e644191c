#include "quantization/float_map.h"

#include <gtest/gtest.h>

#include "quantization/test_graph.h"
#include "torusml/error.h"

namespace torusml {
namespace {

FloatMap random_sparse(std::mt19937_64& random, std::int64_t rows, std::int64_t columns) {
  FloatRows made(columns);
  for (std::int64_t row = 0; row < rows; ++row) {
    made.add(static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(columns)),
             random_tensor(random, {1}).data[0]);
    made.end_row();
  }
  return made.finish();
}

// All kinds of maps of 12 numbers.
std::vector<FloatMap> maps(std::mt19937_64& random) {
  std::vector<double> repeated = random_tensor(random, {4}).data;
  repeated.insert(repeated.end(), repeated.begin(), repeated.begin() + 4);
  repeated.insert(repeated.end(), repeated.begin(), repeated.begin() + 4);
  return {FloatMap::dense(12, 12, random_tensor(random, {144}).data),
          FloatMap::dense(4, 4, random_tensor(random, {16}).data, 3),
          FloatMap::dense(3, 3, random_tensor(random, {9}).data, 4),
          FloatMap::diagonal(random_tensor(random, {12}).data),
          FloatMap::diagonal(repeated),
          FloatMap::identity(12),
          random_sparse(random, 12, 12)};
}

TEST(FloatMap, ProductsAndSumsActAsTheirParts) {
  std::mt19937_64 random(1);
  const std::vector<double> x = random_tensor(random, {12}).data;
  const std::vector<FloatMap> all = maps(random);
  for (std::size_t a = 0; a < all.size(); ++a) {
    for (std::size_t b = 0; b < all.size(); ++b) {
      const std::vector<double> product = all[a].after(all[b]).apply(x);
      const std::vector<double> one_by_one = all[a].apply(all[b].apply(x));
      const std::vector<double> sum = all[a].plus(all[b]).apply(x);
      for (std::size_t i = 0; i < 12; ++i) {
        EXPECT_NEAR(product[i], one_by_one[i], 1e-12) << a << " after " << b;
        EXPECT_NEAR(sum[i], all[a].apply(x)[i] + all[b].apply(x)[i], 1e-12) << a << "+" << b;
      }
    }
  }
}

TEST(FloatMap, StaysStructured) {
  std::mt19937_64 random(2);
  const std::vector<FloatMap> all = maps(random);
  EXPECT_EQ(all[1].after(all[4]).kind, FloatMap::Kind::dense);
  EXPECT_EQ(all[1].after(all[4]).blocks, 3);
  EXPECT_EQ(all[4].after(all[1]).blocks, 3);
  EXPECT_EQ(all[5].after(all[3]).kind, FloatMap::Kind::diagonal);
  EXPECT_EQ(all[6].after(all[5]).kind, FloatMap::Kind::sparse);
}

TEST(FloatMap, IntegersActAsTheMap) {
  std::mt19937_64 random(3);
  for (FloatMap map : maps(random)) {
    std::vector<std::int64_t> integers;
    for (double& v : map.value) {
      v = std::nearbyint(v * 10);
      integers.push_back(static_cast<std::int64_t>(v));
    }
    std::vector<std::int64_t> x(12), y(12, 0);
    for (std::size_t i = 0; i < 12; ++i) x[i] = static_cast<std::int64_t>(i) - 5;
    apply_weight(map.with_integers(integers), x.data(), 12, y.data(), 12);
    EXPECT_EQ(std::vector<double>(y.begin(), y.end()), map.apply({x.begin(), x.end()}));
  }
}

// A convolution of scaled pixels: its step is that of the scaled weights.
TEST(FloatMap, WeightsOfAKernelEndWithItsScale) {
  FloatRows rows(2);
  rows.add(0, 3, 0);
  rows.add(1, 4, 1);
  rows.end_row();
  FloatMap kernel = rows.finish();
  kernel.weights = {3, 4};
  kernel.weight_count = 2;
  EXPECT_EQ(kernel.after(FloatMap::identity(2)).to_scale(), (std::vector<double>{3, 4}));
  const FloatMap scaled = kernel.after(FloatMap::diagonal({0.5, 0.5}));
  EXPECT_EQ(scaled.to_scale(), (std::vector<double>{1.5, 2}));
  EXPECT_EQ(scaled.weight_of, (std::vector<std::int64_t>{0, 1}));
}

TEST(FloatMap, SharedNumbers) {
  EXPECT_EQ(FloatMap::identity(3).shared_magnitude(), 1.0);
  EXPECT_EQ(FloatMap::diagonal({2, -2}).shared_magnitude(), 2.0);
  EXPECT_FALSE(FloatMap::diagonal({2, 1}).shared_magnitude());
  EXPECT_FALSE(FloatMap::dense(1, 1, {1}).shared_magnitude());
  EXPECT_EQ(FloatMap::dense(2, 2, {3, 3, 4, 4}, 2).shared_by_rows(),
            (std::vector<double>{3, 4, 3, 4}));
  EXPECT_FALSE(FloatMap::dense(1, 2, {3, 4}).shared_by_rows());
}

TEST(FloatMap, ThatIsTooLargeIsRefused) {
  const FloatMap tall = FloatMap::dense(1 << 14, 1, std::vector<double>(1 << 14, 1.0));
  const FloatMap wide = FloatMap::dense(1, 1 << 14, std::vector<double>(1 << 14, 1.0));
  try {
    tall.after(wide);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::not_supported);
  }
}

// Rows of a long window that moves on by one element, 2^27 entries in all.
TEST(FloatMap, RowsThatRepeatCostOnePattern) {
  constexpr std::int64_t kRows = 1 << 15, kLength = 1 << 12;
  FloatRows rows(kRows + kLength);
  for (std::int64_t e = 0; e < kLength; ++e) rows.add(e, static_cast<double>(e % 7 - 3));
  rows.end_row();
  for (std::int64_t row = 1; row < kRows; ++row) rows.repeat_row(row - 1, 1);
  const FloatMap window = rows.finish();
  EXPECT_EQ(window.entries.patterns(), 1u);
  EXPECT_EQ(window.value.size(), 7u);
  EXPECT_EQ(window.counts_to_scale()[0], kRows * (kLength / 7 + 1));
  const FloatMap half = FloatMap::diagonal(std::vector<double>(kRows, 0.5)).after(window);
  EXPECT_EQ(half.entries.value.size(), static_cast<std::size_t>(kLength - kLength / 7));
  const FloatMap twice = half.plus(half);
  EXPECT_EQ(twice.entries.patterns(), 1u);
  const auto weight =
      std::get<SparseWeight>(twice.with_integers({twice.value.begin(), twice.value.end()}));
  EXPECT_EQ(weight.patterns(), 1u);
  EXPECT_EQ(weight.rows, kRows);
  EXPECT_EQ(weight.row(5).column(0), 5);
  EXPECT_EQ(weight.row(5).value[0], -3);
}

TEST(FloatMap, ProductsOfRepeatedRowsActAsTheirParts) {
  std::mt19937_64 random(7);
  FloatRows pool(12), kernel(6);
  for (std::int64_t row = 0; row < 6; ++row) {
    pool.add(2 * row, 0.5);
    pool.add(2 * row + 1, 0.5);
    pool.end_row();
    for (std::int64_t tap = -1; tap <= 1; ++tap) {
      if (row + tap >= 0 && row + tap < 6) kernel.add(row + tap, static_cast<double>(tap) + 2);
    }
    kernel.end_row();
  }
  const FloatMap a = kernel.finish(), b = pool.finish();
  EXPECT_EQ(a.entries.patterns(), 3u) << "the two borders, and between them";
  const std::vector<double> x = random_tensor(random, {12}).data;
  const std::vector<double> product = a.after(b).apply(x), parts = a.apply(b.apply(x));
  for (std::size_t i = 0; i < 6; ++i) EXPECT_NEAR(product[i], parts[i], 1e-12);
}

}  // namespace
}  // namespace torusml
