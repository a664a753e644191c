// Which elements of a row meet, and in which round, to find its first ones in order.
//
//   const SortingNetwork network = first_in_order(10, 3);
//   for (const auto& round : network.rounds) {
//     for (const auto& [first, second] : round) ...  // the winner goes to `first`
//   }
//
// Batcher's merges of odd and even places (Knuth, The Art of Computer Programming 3, 5.3.4), of
// lists that are cut to the elements asked for, without the meetings that these do not need.
// Meetings: n - 1 for the first of n elements, 2 n - 3 for two, about n (log2 n)^2 / 4 for all.
//
// Pure. Cost: O(meetings).
#pragma once

#include <cstdint>
#include <vector>

namespace torusml {

struct Meeting {
  std::int64_t first, second;  // places in the row
};

struct SortingNetwork {
  std::vector<std::vector<Meeting>> rounds;  // no place twice in a round
  std::vector<std::int64_t> order;           // where the first, second... stand in the end

  std::int64_t meetings() const;
};

// 1 <= count <= elements.
SortingNetwork first_in_order(std::int64_t elements, std::int64_t count);

}  // namespace torusml
