// Formulas and golden numbers of uniform quantization.

#include "torusml/quantizer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numeric>

#include "base/testing/errors.h"
#include "torusml/error.h"

namespace torusml {
namespace {

using Integers = std::vector<std::int64_t>;

// numpy.random.seed(0); numpy.random.uniform(-2, 2, 10)
const std::vector<double> kValues{0.195254015709299,    0.8607574654896779,   0.4110535042865755,
                                  0.17953273198758746,  -0.30538080264438117, 0.5835764522666245,
                                  -0.24965115494922996, 1.567092003128319,    1.8546510420041171,
                                  -0.4662339246968892};

TEST(UniformQuantizer, GoldenSevenBits) {
  const UniformQuantizer q = UniformQuantizer::fit({.n_bits = 7}, kValues);
  EXPECT_EQ(q.parameters().scale, std::vector<double>{0.018274684777173276});
  EXPECT_EQ(q.parameters().zero_point, Integers{26});
  EXPECT_EQ(q.parameters().offset, 0);
  const Integers integers = q.quantize(kValues);
  EXPECT_EQ(integers, (Integers{37, 73, 48, 36, 9, 58, 12, 112, 127, 0}));
  const std::vector<double> printed{0.20102153, 0.85891018,  0.40204307, 0.18274685, -0.31066964,
                                    0.58478991, -0.25584559, 1.57162289, 1.84574316, -0.4751418};
  const std::vector<double> back = q.dequantize(integers);
  for (std::size_t i = 0; i < back.size(); ++i) EXPECT_NEAR(back[i], printed[i], 1e-8) << i;
}

TEST(UniformQuantizer, GoldenThreeBits) {
  const UniformQuantizer q = UniformQuantizer::fit({.n_bits = 3}, kValues);
  EXPECT_EQ(q.quantize(kValues), (Integers{2, 4, 2, 2, 0, 3, 0, 6, 7, 0}));
  EXPECT_EQ(q.parameters().zero_point, Integers{1});
}

TEST(UniformQuantizer, GoldenThreeBitsSymmetric) {
  const UniformQuantizer q =
      UniformQuantizer::fit({.n_bits = 3, .is_signed = true, .is_symmetric = true}, kValues);
  EXPECT_EQ(q.quantize(kValues), (Integers{0, 1, 1, 0, 0, 1, 0, 3, 3, -1}));
  EXPECT_EQ(q.parameters().zero_point, Integers{0});
  EXPECT_EQ(q.parameters().scale[0], kValues[8] / 3);
  EXPECT_EQ(q.lowest(), -4);
  EXPECT_EQ(q.highest(), 3);
}

TEST(UniformQuantizer, SignedHasAnOffset) {
  const UniformQuantizer q =
      UniformQuantizer::fit({.n_bits = 4, .is_signed = true}, std::vector<double>{-1, 2});
  EXPECT_EQ(q.parameters().offset, 8);
  EXPECT_EQ(q.parameters().scale[0], 3.0 / 15);
  // (-2 * 8 + 1 * 7) / 3
  EXPECT_EQ(q.parameters().zero_point[0], -3);
  EXPECT_EQ(q.quantize(std::vector<double>{-1, 2, 0}), (Integers{-8, 7, -3}));
}

TEST(UniformQuantizer, ZeroPointMayLieOutsideTheRange) {
  const UniformQuantizer q = UniformQuantizer::fit({.n_bits = 2}, std::vector<double>{10, 13});
  EXPECT_EQ(q.parameters().zero_point[0], -10);
  EXPECT_EQ(q.quantize(std::vector<double>{10, 11, 12, 13}), (Integers{0, 1, 2, 3}));
}

TEST(UniformQuantizer, NarrowDropsTheLowestInteger) {
  const UniformQuantizer q({.n_bits = 3, .is_signed = true, .is_narrow = true}, {{1.0}, {0}, 4});
  EXPECT_EQ(q.lowest(), -3);
  EXPECT_EQ(q.quantize(std::vector<double>{-9, 9}), (Integers{-3, 3}));
  const UniformQuantizer u({.n_bits = 3, .is_narrow = true}, {{1.0}, {0}, 0});
  EXPECT_EQ(u.lowest(), 1);
}

TEST(UniformQuantizer, QatHasNoZeroPoint) {
  const UniformQuantizer q = UniformQuantizer::fit({.n_bits = 2, .is_signed = true, .is_qat = true},
                                                   std::vector<double>{-2, -1, 0, 1});
  EXPECT_EQ(q.parameters().scale[0], 1.0);
  EXPECT_EQ(q.parameters().zero_point[0], 0);
  EXPECT_EQ(q.quantize(std::vector<double>{-2, -1, 0, 1}), (Integers{-2, -1, 0, 1}));
}

TEST(UniformQuantizer, ConstantData) {
  const UniformQuantizer zero =
      UniformQuantizer::fit({.n_bits = 3, .is_signed = true}, std::vector<double>{0, 0});
  EXPECT_EQ(zero.parameters(), (UniformQuantizationParameters{{1.0}, {0}, 0}));
  EXPECT_EQ(zero.quantize(std::vector<double>{0}), Integers{0});
  const UniformQuantizer negative =
      UniformQuantizer::fit({.n_bits = 3}, std::vector<double>{-2.5, -2.5, -2.5});
  EXPECT_EQ(negative.parameters(), (UniformQuantizationParameters{{-2.5}, {0}, 0}));
  EXPECT_EQ(negative.quantize(std::vector<double>{-2.5}), Integers{1});
  EXPECT_EQ(negative.dequantize(Integers{1}), std::vector<double>{-2.5});
}

TEST(UniformQuantizer, RoundsHalfToEven) {
  const UniformQuantizer q({.n_bits = 4, .is_signed = true}, {{1.0}, {0}, 8});
  const std::vector<double> halves{-2.5, -1.5, -0.5, 0.5, 1.5, 2.5};
  EXPECT_EQ(q.quantize(halves), (Integers{-2, -2, 0, 0, 2, 2}));
  EXPECT_EQ(q.quantize(halves, 1, true), (Integers{-2, -2, 0, 0, 2, 2}));
}

TEST(UniformQuantizer, FastAndGeneralRoundingAgree) {
  const UniformQuantizer q = UniformQuantizer::fit({.n_bits = 32}, std::vector<double>{-3, 5});
  std::vector<double> values(2001);
  std::iota(values.begin(), values.end(), -1000.0);
  for (double& value : values) value *= 0.0049;
  const Integers fast = q.quantize(values);
  const UniformQuantizer per_channel(
      q.options(), {{q.parameters().scale[0]}, Integers(2, q.parameters().zero_point[0]), 0});
  EXPECT_EQ(fast, per_channel.quantize(values));
}

TEST(UniformQuantizer, ClipsOrNot) {
  const UniformQuantizer q({.n_bits = 3}, {{0.5}, {1}, 0});
  const std::vector<double> values{-10, 0, 10};
  EXPECT_EQ(q.quantize(values), (Integers{0, 1, 7}));
  EXPECT_EQ(q.quantize(values, 1, true), (Integers{-19, 1, 21}));
  EXPECT_EQ(q.count_clipped(values), 2);
}

// Also at halves beyond the ends, where rounding to even decides, and far away.
TEST(UniformQuantizer, CountsTheValuesThatClippingChanges) {
  const UniformQuantizer one({.n_bits = 3, .is_signed = true}, {{0.25}, {1}, 4});
  const UniformQuantizer channels({.n_bits = 4}, {{1, 0.5, -2}, {0, 10, 3}, 0});
  std::vector<double> values{1e300, -1e300, 1e18, -1e18};
  for (double value = -20; value <= 20; value += 0.0625) values.push_back(value);
  for (const UniformQuantizer* q : {&one, &channels}) {
    for (const std::int64_t inner : {1, 2}) {
      const Integers clipped = q->quantize(values, inner), free = q->quantize(values, inner, true);
      std::int64_t expected = 0;
      for (std::size_t i = 0; i < values.size(); ++i) expected += clipped[i] != free[i];
      EXPECT_EQ(q->count_clipped(values, inner), expected);
    }
  }
}

TEST(UniformQuantizer, PerChannel) {
  const UniformQuantizer q({.n_bits = 8}, {{1, 0.5}, {0, 10}, 0});
  const std::vector<double> values{1, 1, 2, 2};
  EXPECT_EQ(q.quantize(values), (Integers{1, 12, 2, 14}));
  EXPECT_EQ(q.dequantize(Integers{1, 12, 2, 14}), values);
  EXPECT_EQ(q.quantize(values, 2),
            (Integers{1, 1, 14, 14}));  // two elements behind the channel axis
}

TEST(UniformQuantizer, EveryWidth) {
  for (int bits = 1; bits <= 32; ++bits) {
    const UniformQuantizer q = UniformQuantizer::fit({.n_bits = bits}, std::vector<double>{0, 3});
    EXPECT_EQ(q.quantize(std::vector<double>{0, 3}), (Integers{0, (std::int64_t{1} << bits) - 1}))
        << bits;
  }
}

TEST(UniformQuantizer, WrongUse) {
  const std::vector<double> range{0, 1};
  const auto fit = [&](const QuantizationOptions& options) {
    return code_of([&] { UniformQuantizer::fit(options, range); });
  };
  EXPECT_EQ(fit({.n_bits = 0}), ErrorCode::unsupported_bits);
  EXPECT_EQ(fit({.n_bits = 33}), ErrorCode::unsupported_bits);
  EXPECT_EQ(fit({.n_bits = 1, .is_signed = true, .is_symmetric = true}),
            ErrorCode::unsupported_bits);
  EXPECT_EQ(fit({.is_symmetric = true}), ErrorCode::invalid_argument);
  EXPECT_EQ(fit({.is_signed = true, .is_symmetric = true, .is_qat = true}),
            ErrorCode::invalid_argument);
  EXPECT_EQ(code_of([] { min_max_stats({}); }), ErrorCode::empty_calibration);
  const double nan = std::nan(""), infinity = std::numeric_limits<double>::infinity();
  EXPECT_EQ(code_of([&] {
              min_max_stats(std::vector<double>{0, nan});
            }),
            ErrorCode::non_finite_value);
  EXPECT_EQ(code_of([&] { quantization_parameters({}, {1, 0}); }), ErrorCode::invalid_argument);
  EXPECT_EQ(code_of([&] {
              quantization_parameters({}, {0, infinity});
            }),
            ErrorCode::invalid_argument);
  const UniformQuantizer q;
  EXPECT_EQ(code_of([&] {
              q.quantize(std::vector<double>{0, infinity});
            }),
            ErrorCode::non_finite_value);
  EXPECT_EQ(code_of([&] { q.quantize(range, 0); }), ErrorCode::invalid_argument);
  EXPECT_EQ(code_of([] { UniformQuantizer({}, {{0.0}, {0}, 0}); }), ErrorCode::invalid_argument);
  EXPECT_EQ(code_of([&] { UniformQuantizer({}, {{nan}, {0}, 0}); }), ErrorCode::invalid_argument);
  EXPECT_EQ(code_of([] { UniformQuantizer({}, {{}, {0}, 0}); }), ErrorCode::invalid_argument);
  EXPECT_EQ(code_of([] { UniformQuantizer({}, {{1, 2}, {0, 0, 0}, 0}); }), ErrorCode::wrong_shape);
}

TEST(UniformQuantizer, MessagesCarryTheNumber) {
  try {
    UniformQuantizer::fit({.n_bits = 33}, std::vector<double>{0, 1});
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("33"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace torusml
