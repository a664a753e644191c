#include "quantization/sorting_network.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

namespace torusml {
namespace {

// What `order` reads of a row of bits.
std::vector<int> first_bits(const SortingNetwork& network, std::vector<int> row) {
  for (const std::vector<Meeting>& round : network.rounds) {
    for (const auto [first, second] : round) {
      int &a = row[static_cast<std::size_t>(first)], &b = row[static_cast<std::size_t>(second)];
      if (a < b) std::swap(a, b);
    }
  }
  std::vector<int> result;
  for (const std::int64_t place : network.order)
    result.push_back(row[static_cast<std::size_t>(place)]);
  return result;
}

// A network that orders all rows of bits orders all rows (Knuth, 5.3.4, theorem Z).
TEST(SortingNetwork, OrdersAllRowsOfBits) {
  for (std::int64_t elements = 1; elements <= 11; ++elements) {
    for (std::int64_t count = 1; count <= elements; ++count) {
      const SortingNetwork network = first_in_order(elements, count);
      for (unsigned bits = 0; bits < 1U << elements; ++bits) {
        std::vector<int> row;
        for (std::int64_t e = 0; e < elements; ++e) row.push_back(bits >> e & 1);
        const std::vector<int> got = first_bits(network, row);
        std::ranges::sort(row, std::greater());
        row.resize(static_cast<std::size_t>(count));
        ASSERT_EQ(got, row) << elements << " " << count << " " << bits;
      }
    }
  }
}

TEST(SortingNetwork, NoPlaceMeetsTwiceInARound) {
  for (const std::int64_t count : {1, 3, 20}) {
    for (const std::vector<Meeting>& round : first_in_order(20, count).rounds) {
      std::set<std::int64_t> met;
      for (const auto [first, second] : round)
        EXPECT_TRUE(met.insert(first).second && met.insert(second).second);
    }
  }
}

// As many as a tournament for the first, two tournaments for the first two, and Batcher's merges
// for all.
TEST(SortingNetwork, HasFewMeetings) {
  for (std::int64_t elements = 2; elements <= 40; ++elements) {
    EXPECT_EQ(first_in_order(elements, 1).meetings(), elements - 1);
    EXPECT_EQ(first_in_order(elements, 2).meetings(), 2 * elements - 3);
  }
  const std::vector<std::int64_t> all{0, 1, 3, 5, 9, 12, 16, 19, 26, 31};
  for (std::int64_t elements = 1; elements <= 10; ++elements)
    EXPECT_EQ(first_in_order(elements, elements).meetings(), all[elements - 1]);
}

}  // namespace
}  // namespace torusml
