#include "tfhe/blocks.h"

#include <gtest/gtest.h>
#include <tbb/concurrent_vector.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "base/threads.h"

namespace torusml {
namespace {

using Blocks = std::vector<std::pair<std::size_t, std::size_t>>;

Blocks blocks_of(std::size_t count, std::size_t largest) {
  tbb::concurrent_vector<std::pair<std::size_t, std::size_t>> seen;
  for_blocks(count, largest, [&](std::size_t first, std::size_t n) { seen.push_back({first, n}); });
  Blocks blocks(seen.begin(), seen.end());
  std::ranges::sort(blocks);
  return blocks;
}

TEST(Blocks, AreNearlyEqualAndOccupyAllThreads) {
  for (const int threads : {1, 2}) {
    with_threads(threads, [&] {
      const auto used = static_cast<std::size_t>(threads_used(threads));
      for (std::size_t count = 0; count < 120; ++count) {
        for (const std::size_t largest : {1u, 5u, 16u}) {
          const Blocks blocks = blocks_of(count, largest);
          std::size_t next = 0, least = count, most = 0;
          for (const auto& [first, n] : blocks) {
            EXPECT_EQ(first, next);
            next += n;
            least = std::min(least, n);
            most = std::max(most, n);
          }
          EXPECT_EQ(next, count);
          EXPECT_LE(most, std::min(largest, least + 1)) << count << " by " << largest;
          EXPECT_TRUE(blocks.size() % used == 0 || blocks.size() == count)
              << count << " by " << largest;
        }
      }
    });
  }
}

}  // namespace
}  // namespace torusml
