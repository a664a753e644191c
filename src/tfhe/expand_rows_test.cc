#include "tfhe/expand_rows.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "torusml/error.h"

namespace torusml {
namespace {

// A dimension whose rows do not end with blocks of the generator.
SeededLweBatch batch_of(std::size_t count) {
  SeededLweBatch batch{{33}, {}, {}};
  batch.seed.fill(9);
  for (std::size_t i = 0; i < count; ++i) batch.bodies.push_back(i * 0x9e3779b97f4a7c15);
  return batch;
}

TEST(ExpandRows, GivesTheRowsOfTheWholeBatch) {
  const SeededLweBatch seeded = batch_of(7);
  const LweBatch all = expand(seeded);
  for (std::size_t first = 0; first <= 7; ++first) {
    for (std::size_t count = 0; first + count <= 7; ++count) {
      const LweBatch rows = expand_rows(seeded, first, count);
      ASSERT_EQ(rows.count, count);
      for (std::size_t i = 0; i < count; ++i)
        EXPECT_TRUE(std::ranges::equal(rows.row(i), all.row(first + i))) << first << " + " << i;
    }
  }
}

TEST(ExpandRows, RefusesRowsThatAreNotThere) {
  const SeededLweBatch seeded = batch_of(4);
  for (const auto& [first, count] :
       {std::pair<std::size_t, std::size_t>{3, 2}, {5, 0}, {1, ~std::size_t{0}}}) {
    try {
      expand_rows(seeded, first, count);
      ADD_FAILURE() << first << " + " << count;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::invalid_argument);
      EXPECT_NE(error.message().find("there are 4"), std::string::npos) << error.message();
    }
  }
}

}  // namespace
}  // namespace torusml
