#include "server/rate_limit.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace torusml {
namespace {

RateLimit::Time at(double seconds) {
  return RateLimit::Time(std::chrono::duration_cast<RateLimit::Time::duration>(
      std::chrono::duration<double>(seconds)));
}

// What a tenant's requests at these times are told, at 2 a second and 3 at once.
TEST(RateLimit, LetsABurstInAndThenOneForEachPartOfASecond) {
  struct Row {
    double at, wait;
  };
  const std::vector<Row> rows{{10, 0},    {10, 0},       {10, 0},      // the burst
                              {10, 0.5},  {10.25, 0.25},               // refusals take nothing
                              {10.5, 0},  {10.5, 0.5},                 // one more has come
                              {11.5, 0},  {11.5, 0},     {11.5, 0.5},  // two more
                              {100, 0},   {100, 0},      {100, 0},     // never more than the burst
                              {100, 0.5}, {99, 0.5},  // a clock that was read before
                              {100.5, 0}};
  RateLimit limit(2, 3);
  for (std::size_t i = 0; i < rows.size(); ++i)
    EXPECT_NEAR(limit.take("alice", at(rows[i].at)), rows[i].wait, 1e-6) << i;
}

TEST(RateLimit, TenantsDoNotShareIt) {
  RateLimit limit(1, 1);
  EXPECT_EQ(limit.take("alice", at(0)), 0);
  EXPECT_EQ(limit.take("alice", at(0)), 1);
  EXPECT_EQ(limit.take("bob", at(0)), 0);
}

// Tenants come and go; who still waits is not forgotten.
TEST(RateLimit, FullBucketsAreDropped) {
  RateLimit limit(1, 2);
  for (int i = 0; i < 100'000; ++i) {
    const double now = i / 10.0;
    ASSERT_EQ(limit.take("tenant " + std::to_string(i), at(now)), 0);
    if (i % 10 == 0) {  // as fast as it may
      ASSERT_EQ(limit.take("busy", at(now)), 0);
    }
    ASSERT_LE(limit.buckets(), 65u);
  }
  EXPECT_EQ(limit.take("busy", at(9999.9)), 0);
  EXPECT_NEAR(limit.take("busy", at(9999.9)), 0.1, 1e-6);
}

TEST(RateLimit, BucketsThatAreNotFullStay) {
  RateLimit limit(1, 1);
  for (int i = 0; i < 1000; ++i) EXPECT_EQ(limit.take("tenant " + std::to_string(i), at(0)), 0);
  EXPECT_EQ(limit.buckets(), 1000u);
  for (int i = 0; i < 1000; ++i) EXPECT_EQ(limit.take("tenant " + std::to_string(i), at(0)), 1);
}

TEST(RateLimit, ZeroIsNone) {
  RateLimit limit(0, 1);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(limit.take("alice", at(0)), 0);
}

TEST(RateLimit, MayBeLessThanOneASecond) {
  RateLimit limit(0.1, 1);
  EXPECT_EQ(limit.take("alice", at(0)), 0);
  EXPECT_NEAR(limit.take("alice", at(4)), 6, 1e-6);
  EXPECT_EQ(limit.take("alice", at(10.001)), 0);
}

}  // namespace
}  // namespace torusml
