#include "quantization/float_map.h"

#include <gtest/gtest.h>

#include "quantization/test_graph.h"
#include "torusml/error.h"

namespace torusml {
namespace {

FloatMap random_sparse(std::mt19937_64& random, std::int64_t rows, std::int64_t columns) {
  FloatMap map{FloatMap::Kind::sparse, rows, columns, 1, {0}, {}, {}};
  for (std::int64_t row = 0; row < rows; ++row) {
    map.column.push_back(static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(columns)));
    map.value.push_back(random_tensor(random, {1}).data[0]);
    map.row_start.push_back(row + 1);
  }
  return map;
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
  FloatMap kernel = FloatMap::sparse(2);
  kernel.add_entry(0, 3);
  kernel.add_entry(1, 4);
  kernel.add_row();
  kernel.weights = {3, 4};
  kernel.weight_of = {0, 1};
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

}  // namespace
}  // namespace torusml
