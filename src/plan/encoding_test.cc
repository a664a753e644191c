// Integers to words of the torus and back.

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "plan/client_spec.h"
#include "torusml/error.h"

namespace torusml {
namespace {

TEST(Encoding, RoundTripsAtBothEnds) {
  for (double scale : {0x1p-9, 1.0 / 616, 0.49}) {
    for (std::int64_t v : {-157, -1, 0, 1, 150}) {
      if (std::abs(static_cast<double>(v) + 3.5) * scale >= 0.5) continue;
      EXPECT_EQ(decode(encode(v, scale, -3.5), scale, -3.5, {-157, 150}), v) << scale;
    }
  }
  EXPECT_EQ(encode(0, 0.25, 0), 0u);
  EXPECT_EQ(encode(1, 0.25, 0), Torus{1} << 62);
  EXPECT_EQ(encode(-1, 0.25, 0), Torus{3} << 62);
}

// Against the definitions, in long double: whose own rounding is up to one word.
TEST(Encoding, IsTheNearestWord) {
  std::mt19937_64 words(1);
  for (const double scale : {0x1p-9, 1.0 / 616, 0.49, 1.0, 1.0 / 3e7}) {
    for (const double center : {0.0, -3.5, 1e6 + 1.0 / 3}) {
      for (int i = 0; i < 1000; ++i) {
        const auto value = static_cast<std::int64_t>(words() % 2'000'001) - 1'000'000;
        const Torus expected =
            encode_units(static_cast<long double>(value) - static_cast<long double>(center), scale);
        const auto difference = static_cast<std::int64_t>(encode(value, scale, center) - expected);
        // A phase of p turns is a long double with an error of p 2^-64.
        EXPECT_LE(std::abs(static_cast<double>(difference)),
                  1 + std::abs(static_cast<double>(value) - center) * scale)
            << value << " " << scale << " " << center;
      }
    }
  }
}

TEST(Encoding, DecodesToTheNearestInteger) {
  std::mt19937_64 words(2);
  const Interval all{-(std::int64_t{1} << 40), std::int64_t{1} << 40};
  for (const double scale : {0x1p-9, 1.0 / 616, 0.49, 1.0, 1.0 / 3e7}) {
    for (const double center : {0.0, -3.5, -1e6 - 1.0 / 3, 1e9}) {
      for (int i = 0; i < 1000; ++i) {
        const Torus phase = words();
        const long double value =
            static_cast<long double>(static_cast<std::int64_t>(phase)) * 0x1p-64L / scale + center;
        EXPECT_LE(std::abs(static_cast<long double>(decode(phase, scale, center, all)) - value),
                  0.5L + 1e-9L)
            << phase << " " << scale << " " << center;
      }
    }
  }
}

// What a damaged file may ask for is an integer of the interval, and nothing undefined.
TEST(Encoding, SenselessScalesAndCentersDecodeIntoTheInterval) {
  for (const double scale : {1e-300, 0x1p-64, 1.0}) {
    for (const double center : {-1e300, 0.5, 1e300}) {
      for (const Torus phase : {Torus{0}, Torus{1} << 63, ~Torus{0} >> 1}) {
        const std::int64_t value = decode(phase, scale, center, {-3, 5});
        EXPECT_TRUE(Interval({-3, 5}).contains(value)) << scale << " " << center;
        encode(value, scale, center);
      }
    }
  }
}

TEST(Encoding, DecodeClampsToTheInterval) {
  EXPECT_EQ(decode(encode(9, 0x1p-5, 0), 0x1p-5, 0, {-3, 3}), 3);
  EXPECT_EQ(decode(encode(-9, 0x1p-5, 0), 0x1p-5, 0, {-3, 3}), -3);
}

}  // namespace
}  // namespace torusml
