// Every kernel on every instruction set of this machine, against plain arithmetic.
#include "tfhe/kernels.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <complex>
#include <cstdio>
#include <random>

#include "torusml/error.h"

namespace torusml {
namespace {

// Returns to the machine's best instruction set at the end of a test.
struct TargetReset {
  ~TargetReset() { set_target(""); }
};

class KernelsOnTarget : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    const auto targets = compiled_targets();
    const auto found = std::find_if(targets.begin(), targets.end(),
                                    [](const auto& target) { return target.name == GetParam(); });
    if (!found->runnable) {
      std::printf("not run: this machine lacks %s\n", GetParam().c_str());
      GTEST_SKIP();
    }
    set_target(GetParam());
    ASSERT_STREQ(current_kernels().target, GetParam().c_str());
  }
  TargetReset reset_;
  std::mt19937_64 random_{7};
};

std::vector<std::string> names() {
  std::vector<std::string> result;
  for (const auto& target : compiled_targets()) result.push_back(target.name);
  return result;
}

INSTANTIATE_TEST_SUITE_P(Targets, KernelsOnTarget, testing::ValuesIn(names()),
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
  std::copy(values.begin(), values.end(), work.begin());
  current_kernels().forward(plan, work.data(), out.data());
  return out;
}

AlignedBuffer<double> pointwise(const AlignedBuffer<double>& a, const AlignedBuffer<double>& b) {
  const std::size_t points = a.size() / 2;
  AlignedBuffer<double> c(a.size());
  for (std::size_t j = 0; j < points; ++j) {
    const auto z = std::complex(a[j], a[points + j]) * std::complex(b[j], b[points + j]) /
                   static_cast<double>(points);
    c[j] = z.real();
    c[points + j] = z.imag();
  }
  return c;
}

TEST_P(KernelsOnTarget, TransformGivesNegacyclicProducts) {
  for (std::uint32_t size = kSmallestPolynomial; size <= 4096; size *= 2) {
    const FftPlan& plan = fft_plan({size});
    std::uniform_int_distribution<int> digit(-1000, 1000);
    Values a(size), b(size);
    for (auto& x : a) x = digit(random_);
    for (auto& x : b) x = digit(random_);
    const auto product = pointwise(transform(plan, a), transform(plan, b));
    Values result(size);
    current_kernels().inverse(plan, product.data(), result.data());
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
    Values result(size);
    current_kernels().inverse(plan, product.data(), result.data());
    for (std::size_t j = 0; j < size; ++j) {
      const double expected = j >= shift ? a[j - shift] : -a[j + size - shift];
      ASSERT_NEAR(result[j], expected, 1e-9) << "N " << size << " coefficient " << j;
    }
  }
}

TEST_P(KernelsOnTarget, InverseAddRoundsToTorusWords) {
  for (std::uint32_t size : {32u, 64u, 2048u}) {
    const FftPlan& plan = fft_plan({size});
    // Multiples of 2^-40 with large integer parts survive the transform of a constant polynomial.
    Values a(size);
    for (auto& x : a) {
      x = std::ldexp(static_cast<double>(static_cast<std::int64_t>(random_()) >> 24), -20);
    }
    auto transformed = transform(plan, a);
    for (auto& x : transformed) x /= static_cast<double>(plan.points);
    std::vector<std::uint64_t> addend(size), result(size);
    for (auto& x : addend) x = random_();
    AlignedBuffer<double> work(size);
    current_kernels().inverse_add(plan, transformed.data(), work.data(), addend.data(),
                                  result.data());
    for (std::size_t j = 0; j < size; ++j) {
      const double fraction = a[j] - std::floor(a[j]);
      const auto expected = addend[j] + static_cast<std::uint64_t>(std::ldexp(fraction, 63)) * 2;
      const auto error = static_cast<std::int64_t>(result[j] - expected);
      ASSERT_LT(std::abs(std::ldexp(static_cast<double>(error), -64)), 1e-7) << j;
    }
  }
}

TEST_P(KernelsOnTarget, DigitsRebuildTheRotatedDifference) {
  for (const std::uint32_t size : {32u, 256u}) {
    for (const Gadget gadget :
         {Gadget{23, 1}, Gadget{15, 2}, Gadget{1, 7}, Gadget{31, 2}, Gadget{7, 3}}) {
      std::vector<std::uint64_t> source(size), subtrahend(size);
      for (auto& x : source) x = random_();
      for (auto& x : subtrahend) x = random_();
      const int kept = static_cast<int>(gadget.base_log2 * gadget.level_count);
      for (std::size_t shift = 0; shift < 2 * size; ++shift) {
        Values digits(size * gadget.level_count);
        current_kernels().rotated_digits(size, gadget, source.data(), shift, subtrahend.data(),
                                         digits.data());
        for (std::size_t j = 0; j < size; ++j) {
          const std::size_t from = (j + 2 * size - shift) % (2 * size);
          const std::uint64_t rotated = from < size ? source[from] : 0 - source[from - size];
          const std::uint64_t difference = rotated - subtrahend[j];
          std::uint64_t rebuilt = 0;
          for (std::uint32_t level = 0; level < gadget.level_count; ++level) {
            const double digit = digits[level * size + j];
            const double half = std::ldexp(1, static_cast<int>(gadget.base_log2) - 1);
            ASSERT_TRUE(std::abs(digit) <= half && digit == std::floor(digit)) << digit;
            rebuilt += static_cast<std::uint64_t>(static_cast<std::int64_t>(digit))
                       << (64 - gadget.base_log2 * (level + 1));
          }
          const auto error = static_cast<std::int64_t>(rebuilt - difference);
          ASSERT_LE(std::abs(static_cast<double>(error)), std::ldexp(1, 63 - kept))
              << "N " << size << " shift " << shift << " coefficient " << j;
        }
      }
    }
  }
}

// Words on a coarse grid, as the transform leaves them, hit the halves between digits often.
TEST_P(KernelsOnTarget, DigitsOfCoarseWordsHaveNoBias) {
  const std::size_t size = 4096;
  for (const Gadget gadget : {Gadget{4, 1}, Gadget{4, 2}}) {
    std::vector<std::uint64_t> source(size), zero(size);
    for (auto& x : source) x = random_() << 58;
    Values digits(size * gadget.level_count);
    current_kernels().rotated_digits(size, gadget, source.data(), 100, zero.data(), digits.data());
    for (std::size_t level = 0; level < gadget.level_count; ++level) {
      double sum = 0;
      for (std::size_t j = 0; j < size; ++j) sum += digits[level * size + j];
      // One standard deviation is below 5 / 64.
      EXPECT_LT(std::abs(sum / static_cast<double>(size)), 0.39) << level;
    }
    if (gadget.level_count == 1) {
      double error = 0;
      for (std::size_t j = 0; j < size; ++j) {
        const std::uint64_t from = j >= 100 ? source[j - 100] : 0 - source[j + size - 100];
        const auto rebuilt = static_cast<std::uint64_t>(static_cast<std::int64_t>(digits[j])) << 60;
        error += std::ldexp(static_cast<double>(static_cast<std::int64_t>(rebuilt - from)), -60);
      }
      // Rounding all halves up would give 1/8.
      EXPECT_LT(std::abs(error / static_cast<double>(size)), 0.03);
    }
  }
}

TEST_P(KernelsOnTarget, MultiplyIsAMatrixProduct) {
  for (std::size_t columns = 1; columns <= 7; ++columns) {
    const ProductShape shape{32, columns + 1, columns};
    std::vector<double> digits(shape.rows * 2 * shape.points), matrix(shape.matrix_doubles()),
        out(columns * 2 * shape.points);
    for (auto& x : digits) x = static_cast<double>(random_() % 100);
    for (auto& x : matrix) x = static_cast<double>(random_() % 100);
    current_kernels().multiply(shape, digits.data(), matrix.data(), out.data());
    for (std::size_t column = 0; column < columns; ++column) {
      for (std::size_t j = 0; j < shape.points; ++j) {
        std::complex<double> sum = 0;
        for (std::size_t row = 0; row < shape.rows; ++row) {
          const double* cell = matrix.data() + j / kGroupPoints * shape.group_doubles() +
                               (row * columns + column) * 2 * kGroupPoints + j % kGroupPoints;
          sum += std::complex(digits[row * 2 * shape.points + j],
                              digits[(row * 2 + 1) * shape.points + j]) *
                 std::complex(cell[0], cell[kGroupPoints]);
        }
        ASSERT_EQ(out[column * 2 * shape.points + j], sum.real());
        ASSERT_EQ(out[(column * 2 + 1) * shape.points + j], sum.imag());
      }
    }
  }
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
  TargetReset reset;
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
