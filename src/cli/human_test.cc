#include "cli/human.h"

#include <gtest/gtest.h>

#include "torusml/error.h"

namespace torusml {
namespace {

TEST(Human, ParsesSizes) {
  EXPECT_EQ(parse_bytes("1", "--memory-limit"), 1u);
  EXPECT_EQ(parse_bytes("512B", "--memory-limit"), 512u);
  EXPECT_EQ(parse_bytes("2GB", "--memory-limit"), 2'000'000'000u);
  EXPECT_EQ(parse_bytes("500 MB", "--memory-limit"), 500'000'000u);
  EXPECT_EQ(parse_bytes("1.5GiB", "--memory-limit"), 1'610'612'736u);
  EXPECT_EQ(parse_bytes("3kB", "--memory-limit"), 3000u);
  for (const char* text : {"", "0", "GB", "-1", "1e9", "2 G B", "2gigabytes", "1.2.3", "2GB ",
                           "nan", "inf", "9999999999TB"}) {
    try {
      parse_bytes(text, "--memory-limit");
      ADD_FAILURE() << text;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::invalid_argument);
      EXPECT_EQ(error.where(), "--memory-limit");
    }
  }
}

TEST(Human, Seconds) {
  EXPECT_EQ(human_seconds(3.2e-5), "32.0 us");
  EXPECT_EQ(human_seconds(0.0032), "3.20 ms");
  EXPECT_EQ(human_seconds(4.56), "4.56 s");
  EXPECT_EQ(human_seconds(125), "2 min 5 s");
  EXPECT_EQ(human_seconds(7265), "2 h 1 min");
}

TEST(Human, Probabilities) {
  EXPECT_EQ(human_probability(0), "0");
  EXPECT_EQ(human_probability(0x1p-40), "2^-40");
  EXPECT_EQ(human_probability(0.014), "1.4 %");
  EXPECT_EQ(human_probability(0.0994), "9.9 %");
  EXPECT_EQ(human_probability(0.0996), "10 %");
  EXPECT_EQ(human_probability(0.996), "100 %");
  EXPECT_EQ(human_probability(1), "100 %");
}

TEST(Human, Counts) {
  EXPECT_EQ(counted(1, "sample"), "1 sample");
  EXPECT_EQ(counted(0, "value"), "0 values");
}

TEST(Human, ParsesPowersAndDecimals) {
  EXPECT_EQ(parse_number("2^-40", "--p-error"), 0x1p-40);
  EXPECT_EQ(parse_number("1e-5", "--p-error"), 1e-5);
  EXPECT_NEAR(parse_number("2^-8.5", "--tolerance"), 0.00276214, 1e-8);
  for (const char* text : {"", "x", "2^", "2^x", "1e-5x", "nan", "inf", "2^inf", "3^2", " 1"}) {
    try {
      parse_number(text, "--p-error");
      ADD_FAILURE() << text;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::invalid_argument);
      EXPECT_EQ(error.where(), "--p-error");
    }
  }
}

TEST(Human, ParsesListsAndRanges) {
  using List = std::vector<int>;
  EXPECT_EQ(parse_integers("4", "--bits"), List({4}));
  EXPECT_EQ(parse_integers("2..5", "--bits"), List({2, 3, 4, 5}));
  EXPECT_EQ(parse_integers("8,2..3,-1..0", "--bits"), List({8, 2, 3, -1, 0}));
  EXPECT_EQ(parse_integers("7..7", "--bits"), List({7}));
  EXPECT_EQ(parse_integers("1..1000", "--bits").size(), 1000u);
  for (const char* text : {"", ",", "2,", ",2", "2..", "..2", "2...4", "2..4..6", "5..2", "x",
                           "2.5", "2 ,3", "99999999999", "1..1001", "-2147483648..2147483647"}) {
    try {
      parse_integers(text, "--bits");
      ADD_FAILURE() << text;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::invalid_argument);
      EXPECT_EQ(error.where(), "--bits");
    }
  }
}

}  // namespace
}  // namespace torusml
