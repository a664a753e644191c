#include "artifact/cost_table_file.h"

#include <gtest/gtest.h>

#include "base/testing/temporary_folder.h"
#include "parameters/shipped_cost_table.h"
#include "torusml/error.h"

namespace torusml {
namespace {

ErrorCode code_of(const std::string& text) {
  try {
    parse_cost_table(text, "test");
  } catch (const Error& error) {
    return error.code();
  }
  return ErrorCode::internal;
}

std::string replaced(const std::string& from, const std::string& to) {
  std::string text = cost_table_text(kShippedCostTable);
  const std::size_t place = text.find(from);
  EXPECT_NE(place, std::string::npos) << from;
  return text.replace(place, from.size(), to);
}

TEST(CostTableFile, ReadsBack) {
  const std::string text = cost_table_text(kShippedCostTable);
  const CostTable again = parse_cost_table(text, "test");
  EXPECT_EQ(cost_table_text(again), text);
  EXPECT_EQ(again.at(2048).transform_ns, kShippedCostTable.at(2048).transform_ns);
  const TemporaryFolder folder;
  save_cost_table(kShippedCostTable, folder / "costs.json");
  EXPECT_EQ(cost_table_text(load_cost_table(folder / "costs.json")), text);
}

TEST(CostTableFile, DamageIsNamed) {
  EXPECT_EQ(code_of(""), ErrorCode::file_corrupt);
  EXPECT_EQ(code_of("[]"), ErrorCode::file_corrupt);
  EXPECT_EQ(code_of("{}"), ErrorCode::file_corrupt);
  EXPECT_EQ(code_of(replaced("keyswitch_ns", "keyswitch")), ErrorCode::file_corrupt);
  EXPECT_EQ(code_of(replaced("0.043", "-0.043")), ErrorCode::file_corrupt);
  EXPECT_EQ(code_of(replaced("0.043", "\"fast\"")), ErrorCode::file_corrupt);
  EXPECT_EQ(code_of(replaced("\"size\": 128", "\"size\": 100")), ErrorCode::file_corrupt);
  EXPECT_EQ(code_of(replaced("\"polynomials\"", "\"rows\"")), ErrorCode::file_corrupt);
  try {
    load_cost_table("no/such/table.json");
    ADD_FAILURE() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::file_unreadable);
  }
}

}  // namespace
}  // namespace torusml
