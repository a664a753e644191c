// Linear maps on every instruction set of this machine, against plain arithmetic.
#include "tfhe/linear.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <limits>
#include <random>

#include "base/threads.h"
#include "tfhe/kernels.h"
#include "tfhe/linear_kernels.h"
#include "tfhe/testing/on_target.h"
#include "torusml/error.h"

namespace torusml {
namespace {

// One matrix in both forms; in the sparse one each row has a pattern of its own, at an odd shift.
struct Matrix {
  std::size_t rows = 0, columns = 0;
  std::vector<std::int64_t> dense, row_start{0}, offset, value;
  std::vector<std::uint32_t> pattern;
  std::vector<std::int64_t> shift;

  void add_entry(std::int64_t column, std::int64_t weight) {
    offset.push_back(column - static_cast<std::int64_t>(shift.size()) % 3);
    value.push_back(weight);
  }
  void end_row() {
    pattern.push_back(static_cast<std::uint32_t>(shift.size()));
    shift.push_back(static_cast<std::int64_t>(shift.size()) % 3);
    row_start.push_back(static_cast<std::int64_t>(value.size()));
  }
  DenseMatrix as_dense() const { return {rows, columns, dense}; }
  SparseMatrix as_sparse() const {
    return {rows, columns, row_start, offset, value, pattern, shift};
  }
};

class LinearOnTarget : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    if (!target_.use(GetParam())) GTEST_SKIP();
    ASSERT_STREQ(current_linear_kernels().target, GetParam().c_str());
  }

  // Of `bits` bits, its ends often.
  std::int64_t draw_weight(int bits) {
    const std::int64_t lowest = std::numeric_limits<std::int64_t>::min() >> (64 - bits);
    if (random_() % 8 == 0) return lowest;
    if (random_() % 8 == 0) return -(lowest + 1);
    return static_cast<std::int64_t>(random_()) >> (64 - bits);
  }

  Matrix draw_matrix(std::size_t rows, std::size_t columns, int bits, unsigned kept_of_8) {
    Matrix matrix{.rows = rows, .columns = columns};
    for (std::size_t row = 0; row < rows; ++row) {
      for (std::size_t c = 0; c < columns; ++c) {
        const bool kept = random_() % 8 < kept_of_8;
        matrix.dense.push_back(kept ? draw_weight(bits) : 0);
        if (!kept) continue;
        matrix.add_entry(static_cast<std::int64_t>(c), matrix.dense.back());
      }
      matrix.end_row();
    }
    return matrix;
  }

  LweBatch draw_batch(std::uint32_t dimension, std::size_t count) {
    constexpr Torus kEnds[] = {0,          1,           0x7FFFFFFF,  0x80000000, 0xFFFFFFFF,
                               1ull << 32, ~0ull << 31, ~0ull << 32, 1ull << 63, ~0ull};
    LweBatch batch({dimension}, count);
    for (Torus& word : batch.words)
      word = random_() % 4 == 0 ? kEnds[random_() % std::size(kEnds)] : random_();
    return batch;
  }

  // `units` times the matrix, dense and sparse.
  void check(const Matrix& matrix, std::uint32_t dimension, std::size_t units) {
    const LweBatch x = draw_batch(dimension, units * matrix.columns);
    const LweBatch before = draw_batch(dimension, units * matrix.rows);
    LweBatch expected = before;
    for (std::size_t i = 0; i < expected.count; ++i) {
      const std::size_t row = i % matrix.rows, first = i / matrix.rows * matrix.columns;
      for (std::size_t c = 0; c < matrix.columns; ++c) {
        const auto weight = static_cast<Torus>(matrix.dense[row * matrix.columns + c]);
        for (std::size_t j = 0; j <= dimension; ++j)
          expected.row(i)[j] += weight * x.row(first + c)[j];
      }
    }
    LweBatch sums = before;
    add_product(matrix.as_dense(), x, sums);
    ASSERT_TRUE(std::ranges::equal(sums.words, expected.words)) << "dense";
    sums = before;
    add_product(matrix.as_sparse(), x, sums);
    ASSERT_TRUE(std::ranges::equal(sums.words, expected.words)) << "sparse";
  }

  OnTarget target_;
  std::mt19937_64 random_{7};
};

INSTANTIATE_TEST_SUITE_P(Targets, LinearOnTarget, testing::ValuesIn(target_names()),
                         [](const auto& info) { return info.param; });

TEST_P(LinearOnTarget, RandomShapesAndWidths) {
  for (int round = 0; round < 300; ++round) {
    const int bits = 1 + static_cast<int>(random_() % 64);
    const Matrix matrix = draw_matrix(1 + random_() % 20, 1 + random_() % 40, bits,
                                      static_cast<unsigned>(random_() % 9));
    const auto dimension = static_cast<std::uint32_t>(random_() % 400);
    SCOPED_TRACE("round " + std::to_string(round) + ", bits " + std::to_string(bits) +
                 ", dimension " + std::to_string(dimension));
    check(matrix, dimension, 1 + random_() % 3);
    if (HasFatalFailure()) return;
  }
}

// More columns than a dense panel holds, and than a sparse panel holds in its wide form.
TEST_P(LinearOnTarget, ManyColumns) {
  check(draw_matrix(5, kPanelColumns + 3, 8, 4), 300, 1);
  check(draw_matrix(2, 3000, 32, 1), 300, 1);
}

TEST_P(LinearOnTarget, WeightsAtTheEdgeOfTheFastPath) {
  constexpr std::int64_t kEdge = std::int64_t{1} << 31;
  for (const std::int64_t weight : {kEdge - 1, -kEdge, kEdge, -kEdge - 1}) {
    Matrix matrix{.rows = 1, .columns = 3, .dense = {weight, 5, -1}};
    for (std::int64_t c = 0; c < 3; ++c)
      matrix.add_entry(c, matrix.dense[static_cast<std::size_t>(c)]);
    matrix.end_row();
    check(matrix, 200, 2);
  }
}

// A sparse row may name a column twice, in any order, or have no weight at all; rows may share a
// pattern.
TEST_P(LinearOnTarget, SparseRowsOfAnyForm) {
  const std::vector<std::int64_t> start{0, 3, 3}, offset{2, 0, 2}, weights{4, -7, 9},
      shift{0, 0, 1};
  const std::vector<std::uint32_t> pattern{0, 1, 0};
  const LweBatch x = draw_batch(130, 4);
  LweBatch sums({130}, 3);
  add_product(SparseMatrix{3, 4, start, offset, weights, pattern, shift}, x, sums);
  for (std::size_t j = 0; j <= 130; ++j) {
    ASSERT_EQ(sums.row(0)[j], 13 * x.row(2)[j] - 7 * x.row(0)[j]);
    ASSERT_EQ(sums.row(1)[j], 0u);
    ASSERT_EQ(sums.row(2)[j], 13 * x.row(3)[j] - 7 * x.row(1)[j]);
  }
}

TEST_P(LinearOnTarget, Multiples) {
  const LweBatch x = draw_batch(301, 5), before = draw_batch(301, 5);
  for (const std::int64_t factor :
       {std::int64_t{0}, std::int64_t{1}, std::int64_t{-3},
        std::numeric_limits<std::int64_t>::min(), std::numeric_limits<std::int64_t>::max()}) {
    LweBatch sums = before;
    add_multiple(factor, x, sums);
    for (std::size_t j = 0; j < x.words.size(); ++j)
      ASSERT_EQ(sums.words[j], before.words[j] + static_cast<Torus>(factor) * x.words[j]);
  }
}

TEST(Linear, ThreadsDoNotChangeTheSums) {
  std::mt19937_64 random(3);
  std::vector<std::int64_t> weights(30 * 50);
  for (auto& weight : weights) weight = static_cast<std::int64_t>(random() % 17) - 8;
  LweBatch x({1024}, 4 * 50);
  for (Torus& word : x.words) word = random();
  LweBatch alone({1024}, 4 * 30), together = alone;
  with_threads(1, [&] { add_product(DenseMatrix{30, 50, weights}, x, alone); });
  add_product(DenseMatrix{30, 50, weights}, x, together);
  EXPECT_TRUE(std::ranges::equal(alone.words, together.words));
}

TEST(Linear, UnitsMustMatch) {
  const std::vector<std::int64_t> weights(6, 1);
  const DenseMatrix matrix{2, 3, weights};
  const auto refused = [&](std::uint32_t dimension, std::size_t operands, std::size_t results) {
    LweBatch sums({dimension}, results);
    try {
      add_product(matrix, LweBatch({16}, operands), sums);
    } catch (const Error& error) {
      return error.code() == ErrorCode::wrong_shape;
    }
    return false;
  };
  EXPECT_FALSE(refused(16, 6, 4));
  EXPECT_FALSE(refused(16, 0, 0));
  EXPECT_TRUE(refused(16, 6, 2));
  EXPECT_TRUE(refused(16, 7, 4));
  EXPECT_TRUE(refused(16, 6, 5));
  EXPECT_TRUE(refused(17, 6, 4));
}

}  // namespace
}  // namespace torusml
