// Every kernel on every instruction set of this machine, against plain arithmetic.
#include "tfhe/kernels.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <complex>
#include <cstdio>
#include <random>

#include "tfhe/testing/on_target.h"
#include "torusml/error.h"

namespace torusml {
namespace {

class KernelsOnTarget : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    if (!target_.use(GetParam())) GTEST_SKIP();
    ASSERT_STREQ(current_kernels().target, GetParam().c_str());
  }
  OnTarget target_;
  std::mt19937_64 random_{7};
};

INSTANTIATE_TEST_SUITE_P(Targets, KernelsOnTarget, testing::ValuesIn(target_names()),
                         [](const auto& info) { return info.param; });

using Values = std::vector<double>;

Values negacyclic_product(const Values& a, const Values& b) {
  Values c(a.size());
  for (std::size_t i = 0; i < a.size(); ++i) {
    for (std::size_t j = 0; j < a.size(); ++j) {
      const std::size_t k = i + j;
      if (k < a.size()) {
        c[k] += a[i] * b[j];
      } else {
        c[k - a.size()] -= a[i] * b[j];
      }
    }
  }
  return c;
}

AlignedBuffer<double> transform(const FftPlan& plan, const Values& values) {
  AlignedBuffer<double> work(values.size()), out(values.size());
  current_kernels().forward(plan, values.data(), work.data(), out.data());
  return out;
}

// Place of point j's real part in a transformed polynomial.
std::size_t point(std::size_t j) { return j / kGroupPoints * 2 * kGroupPoints + j % kGroupPoints; }

AlignedBuffer<double> pointwise(const AlignedBuffer<double>& a, const AlignedBuffer<double>& b) {
  const std::size_t points = a.size() / 2;
  AlignedBuffer<double> c(a.size());
  for (std::size_t j = 0; j < points; ++j) {
    const std::size_t re = point(j), im = re + kGroupPoints;
    const auto z =
        std::complex(a[re], a[im]) * std::complex(b[re], b[im]) / static_cast<double>(points);
    c[re] = z.real();
    c[im] = z.imag();
  }
  return c;
}

Values inverse(const FftPlan& plan, const AlignedBuffer<double>& transformed) {
  Values result(transformed.size());
  AlignedBuffer<double> work(transformed.size());
  current_kernels().inverse(plan, transformed.data(), work.data(), result.data());
  return result;
}

TEST_P(KernelsOnTarget, TransformGivesNegacyclicProducts) {
  for (std::uint32_t size = kSmallestPolynomial; size <= 4096; size *= 2) {
    const FftPlan& plan = fft_plan({size});
    std::uniform_int_distribution<int> digit(-1000, 1000);
    Values a(size), b(size);
    for (auto& x : a) x = digit(random_);
    for (auto& x : b) x = digit(random_);
    const auto product = pointwise(transform(plan, a), transform(plan, b));
    const Values result = inverse(plan, product);
    const Values expected = negacyclic_product(a, b);
    for (std::size_t j = 0; j < size; ++j) {
      ASSERT_NEAR(result[j], expected[j], 1e-6) << "N " << size << " coefficient " << j;
    }
  }
}

// Largest sizes: a product with a monomial is a rotation, known without the naive product.
TEST_P(KernelsOnTarget, TransformRotatesByMonomials) {
  for (std::uint32_t size = 8192; size <= kLargestPolynomial; size *= 2) {
    const FftPlan& plan = fft_plan({size});
    Values a(size), monomial(size);
    for (auto& x : a) x = static_cast<double>(random_() % 2000) - 1000;
    const std::size_t shift = random_() % size;
    monomial[shift] = 1;
    const auto product = pointwise(transform(plan, a), transform(plan, monomial));
    const Values result = inverse(plan, product);
    for (std::size_t j = 0; j < size; ++j) {
      const double expected = j >= shift ? a[j - shift] : -a[j + size - shift];
      ASSERT_NEAR(result[j], expected, 1e-9) << "N " << size << " coefficient " << j;
    }
  }
}

// split_digits, multiply_step and join_add together against plain arithmetic.
struct StepCase {
  std::uint32_t size, word_bits, k, grouping, shards_log2;
  Gadget gadget;
};

// Coefficients of shard `shard` of X^exponent * polynomial, whose coefficients are i + shards * j.
Values rotated_shard(const std::vector<Values>& shards, std::size_t exponent, std::size_t shard) {
  const std::size_t count = shards.size(), size = shards[0].size(), period = count * size;
  Values result(size);
  for (std::size_t j = 0; j < size; ++j) {
    const std::size_t from = (j * count + shard + 2 * period - exponent) % (2 * period);
    const double value = shards[from % period % count][from % period / count];
    result[j] = from < period ? value : -value;
  }
  return result;
}

class StepMachine {
 public:
  StepMachine(const StepCase& c, std::mt19937_64& random)
      : case_(c), plan_(fft_plan({c.size})), random_(random) {
    shape_ = {.keys = (1u << c.grouping) - 1,
              .rows = (c.k + 1) * c.gadget.level_count,
              .columns = c.k + 1,
              .row_pitch = c.size + 64,
              .shards_log2 = c.shards_log2};
    shape_.shard_pitch = shape_.rows * shape_.row_pitch;
    make_keys();
  }

  void run() {
    const std::size_t shards = std::size_t{1} << case_.shards_log2, items = 3;
    std::vector<std::vector<std::vector<Torus>>> words(items);
    std::vector<AlignedBuffer<double>> rows;
    std::vector<StepItem> step(items);
    std::vector<std::vector<std::vector<Values>>> digits(items);
    for (std::size_t i = 0; i < items; ++i) {
      rows.emplace_back(shards * shape_.shard_pitch);
      step[i].rows = rows[i].data();
      for (auto& e : step[i].exponents) {
        e = static_cast<std::uint32_t>(random_() % (2 * shards * case_.size));
      }
      if (i == 1) step[i].exponents[0] = 0;
      fill(words[i], rows[i], digits[i]);
    }
    AlignedBuffer<double> scratch(shape_.scratch_doubles(case_.size / 2));
    current_kernels().multiply_step(plan_, shape_, matrix_.data(), step, scratch.data());
    for (std::size_t i = 0; i < items; ++i) {
      for (std::size_t shard = 0; shard < shards; ++shard) {
        for (std::size_t column = 0; column < shape_.columns; ++column) {
          check(digits[i], step[i], shard, column, words[i][shard * shape_.columns + column],
                rows[i].data() + shard * shape_.shard_pitch + column * shape_.row_pitch);
        }
      }
    }
  }

 private:
  void make_keys() {
    matrix_ = AlignedBuffer<double>(shape_.matrix_doubles(case_.size / 2));
    const std::size_t cells = shape_.keys * shape_.rows * shape_.columns;
    for (std::size_t cell = 0; cell < cells; ++cell) {
      Values key(case_.size);
      for (auto& x : key) x = std::ldexp(static_cast<double>(random_() % 2001) - 1000, -20);
      Values scaled = key;
      for (auto& x : scaled) x /= static_cast<double>(plan_.points);
      const auto transformed = transform(plan_, scaled);
      for (std::size_t j = 0; j < transformed.size(); ++j) {
        const std::size_t group = j / (2 * kGroupPoints), in = j % (2 * kGroupPoints);
        matrix_[(group * cells + cell) * 2 * kGroupPoints + in] = transformed[j];
      }
      keys_.push_back(key);
    }
  }

  // Random accumulators, their digits by split_digits, and the same digits computed plainly.
  void fill(std::vector<std::vector<Torus>>& words, AlignedBuffer<double>& rows,
            std::vector<std::vector<Values>>& digits) {
    const std::size_t shards = std::size_t{1} << case_.shards_log2;
    digits.assign(shape_.rows, {});
    for (std::size_t shard = 0; shard < shards; ++shard) {
      for (std::size_t p = 0; p < shape_.columns; ++p) {
        std::vector<Torus> polynomial(case_.size);
        for (auto& x : polynomial) x = random_() >> (64 - case_.word_bits);
        double* first = rows.data() + shard * shape_.shard_pitch + p * shape_.row_pitch;
        const std::size_t pitch = shape_.columns * shape_.row_pitch;
        if (case_.word_bits == 32) {
          const std::vector<std::uint32_t> narrow(polynomial.begin(), polynomial.end());
          current_kernels().split_digits(plan_, case_.gadget, 32, narrow.data(), first, pitch);
        } else {
          current_kernels().split_digits(plan_, case_.gadget, 64, polynomial.data(), first, pitch);
        }
        for (std::uint32_t level = 0; level < case_.gadget.level_count; ++level) {
          digits[level * shape_.columns + p].push_back(digits_of(polynomial, level));
        }
        words.push_back(std::move(polynomial));
      }
    }
  }

  // Digits of one level, in plain arithmetic.
  Values digits_of(const std::vector<Torus>& polynomial, std::uint32_t level) const {
    const int bits = static_cast<int>(case_.word_bits);
    const int base = static_cast<int>(case_.gadget.base_log2);
    const int kept = base * static_cast<int>(case_.gadget.level_count);
    Values result(polynomial.size());
    for (std::size_t j = 0; j < polynomial.size(); ++j) {
      // Odd coefficients are negated before the cut and after it.
      const bool odd = j % 2 == 1;
      Torus word = odd ? 0 - polynomial[j] : polynomial[j];
      word <<= 64 - bits;
      Torus offset = kept < bits ? Torus{1} << (63 - kept) : 0;
      for (std::uint32_t l = 0; l < case_.gadget.level_count; ++l) {
        offset += Torus{1} << (63 - base * static_cast<int>(l));
      }
      const Torus field = (word + offset) << (base * static_cast<int>(level)) >> (64 - base);
      const double digit = static_cast<double>(field) - std::ldexp(1, base - 1);
      result[j] = odd ? -digit : digit;
    }
    return result;
  }

  // Sum over keys and rows of (X^e - 1) * digit * key, against what the step left, added to words.
  void check(const std::vector<std::vector<Values>>& digits, const StepItem& item,
             std::size_t shard, std::size_t column, const std::vector<Torus>& words, double* work) {
    Values expected(case_.size);
    for (std::size_t j = 0; j < shape_.keys; ++j) {
      for (std::size_t row = 0; row < shape_.rows; ++row) {
        Values factor = rotated_shard(digits[row], item.exponents[j], shard);
        for (std::size_t i = 0; i < case_.size; ++i) factor[i] -= digits[row][shard][i];
        const Values product =
            negacyclic_product(factor, keys_[(j * shape_.rows + row) * shape_.columns + column]);
        for (std::size_t i = 0; i < case_.size; ++i) expected[i] += product[i];
      }
    }
    std::vector<Torus> result(words);
    std::vector<std::uint32_t> narrow(words.begin(), words.end());
    if (case_.word_bits == 32) {
      current_kernels().join_add(plan_, 32, work, narrow.data());
      for (std::size_t i = 0; i < case_.size; ++i) result[i] = Torus{narrow[i]} << 32;
    } else {
      current_kernels().join_add(plan_, 64, work, result.data());
    }
    for (std::size_t i = 0; i < case_.size; ++i) {
      const Torus before = words[i] << (64 - case_.word_bits);
      const double fraction = expected[i] - std::floor(expected[i]);
      const auto due = before + (static_cast<Torus>(std::ldexp(fraction, 63)) << 1);
      const double error =
          std::ldexp(static_cast<double>(static_cast<std::int64_t>(result[i] - due)), -64);
      ASSERT_LT(std::abs(error), case_.word_bits == 32 ? 1e-6 : 1e-7) << "coefficient " << i;
    }
  }

  StepCase case_;
  const FftPlan& plan_;
  std::mt19937_64& random_;
  StepShape shape_;
  std::vector<Values> keys_;
  AlignedBuffer<double> matrix_;
};

TEST_P(KernelsOnTarget, StepIsASumOfNegacyclicProducts) {
  for (const StepCase& c : {StepCase{64, 64, 1, 1, 0, {10, 1}}, StepCase{64, 64, 1, 2, 0, {10, 1}},
                            StepCase{128, 32, 2, 2, 0, {7, 2}}, StepCase{128, 64, 3, 1, 1, {9, 1}},
                            StepCase{64, 64, 4, 2, 1, {8, 2}}, StepCase{256, 32, 1, 2, 3, {10, 1}},
                            StepCase{64, 32, 1, 1, 2, {15, 2}}, StepCase{64, 64, 6, 2, 0, {12, 1}},
                            StepCase{512, 64, 5, 1, 0, {6, 3}}}) {
    SCOPED_TRACE(testing::Message() << "N " << c.size << " w " << c.word_bits << " k " << c.k
                                    << " g " << c.grouping << " h " << c.shards_log2 << " b "
                                    << c.gadget.base_log2 << " l " << c.gadget.level_count);
    StepMachine(c, random_).run();
  }
}

// With the transform of one as the only key and X^e - 1 = -2, a step leaves -2 times the digits: so
// the digits of coarse words, which hit the halves between digits often, can be seen.
TEST_P(KernelsOnTarget, DigitsOfCoarseWordsHaveNoBias) {
  const std::size_t size = 4096;
  const FftPlan& plan = fft_plan({size});
  const Gadget gadget{4, 1};
  std::vector<std::uint64_t> words(size);
  for (auto& x : words) x = random_() << 58;
  StepShape shape{.keys = 1, .rows = 1, .columns = 1, .row_pitch = size};
  AlignedBuffer<double> row(size), scratch(shape.scratch_doubles(plan.points));
  Values one(size);
  one[0] = std::ldexp(-0.5, -10) / static_cast<double>(plan.points);
  const auto key = transform(plan, one);
  current_kernels().split_digits(plan, gadget, 64, words.data(), row.data(), size);
  const std::vector<StepItem> items = {{row.data(), {static_cast<std::uint32_t>(size)}}};
  current_kernels().multiply_step(plan, shape, key.data(), items, scratch.data());
  std::vector<std::uint64_t> result(size);
  current_kernels().join_add(plan, 64, row.data(), result.data());
  double sum = 0, error = 0;
  for (std::size_t j = 0; j < size; ++j) {
    const double digit =
        std::ldexp(static_cast<double>(static_cast<std::int64_t>(result[j])), 10 - 64);
    ASSERT_NEAR(digit, std::round(digit), 1e-6);
    ASSERT_LE(std::abs(digit), 8.001);
    sum += digit;
    const auto rebuilt = static_cast<std::uint64_t>(std::llrint(digit)) << 60;
    error += std::ldexp(static_cast<double>(static_cast<std::int64_t>(rebuilt - words[j])), -60);
  }
  // One standard deviation of the mean digit is below 5 / 64; rounding all halves up would give
  // 1/8 as the mean error.
  EXPECT_LT(std::abs(sum / static_cast<double>(size)), 0.39);
  EXPECT_LT(std::abs(error / static_cast<double>(size)), 0.03);
}

TEST_P(KernelsOnTarget, SubtractProductsIsAMatrixProduct) {
  const std::size_t pitch = 48, count = 3;
  for (const std::size_t rows : {1u, 8u, 29u}) {
    std::vector<std::int32_t> digits(rows * count);
    std::vector<std::uint32_t> key(rows * pitch), sums(count * pitch);
    for (auto& x : digits) x = static_cast<std::int32_t>(random_() % 16) - 8;
    for (auto& x : key) x = static_cast<std::uint32_t>(random_());
    for (auto& x : sums) x = static_cast<std::uint32_t>(random_());
    auto expected = sums;
    for (std::size_t c = 0; c < count; ++c) {
      for (std::size_t row = 0; row < rows; ++row) {
        for (std::size_t j = 0; j < pitch; ++j) {
          expected[c * pitch + j] -=
              static_cast<std::uint32_t>(digits[c * rows + row]) * key[row * pitch + j];
        }
      }
    }
    current_kernels().subtract_products(digits.data(), rows, count, key.data(), pitch, sums.data());
    EXPECT_EQ(sums, expected);
  }
}

TEST(Targets, AreNamedAndForced) {
  const OnTarget reset;
  const auto targets = compiled_targets();
  ASSERT_FALSE(targets.empty());
  EXPECT_TRUE(targets[0].runnable);
  const auto slowest = std::find_if(targets.rbegin(), targets.rend(),
                                    [](const auto& target) { return target.runnable; });
  set_target(slowest->name);
  EXPECT_EQ(current_kernels().target, slowest->name);
  // A forced set does not hide the others.
  EXPECT_EQ(compiled_targets()[0].name, targets[0].name);
  try {
    set_target("MMX");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::unknown_option);
  }
}

}  // namespace
}  // namespace torusml
