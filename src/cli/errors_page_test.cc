// docs/errors.md has one section per code, in order, and no other.
#include <gtest/gtest.h>

#include <fstream>
#include <string>
#include <vector>

#include "torusml/error.h"

namespace torusml {
namespace {

TEST(ErrorsPage, HasASectionPerCode) {
  std::vector<std::string> expected;
#define TORUSML_SECTION(name, number, slug) expected.push_back(error_code_name(ErrorCode::name));
  TORUSML_ERROR_CODES(TORUSML_SECTION)
#undef TORUSML_SECTION

  std::ifstream page(TORUSML_SOURCE_DIR "/docs/errors.md");
  ASSERT_TRUE(page.is_open());
  std::vector<std::string> sections;
  std::vector<int> lines_of_text;
  for (std::string line; std::getline(page, line);) {
    if (line.starts_with("## ")) {
      sections.push_back(line.substr(3));
      lines_of_text.push_back(0);
    } else if (!line.empty() && !sections.empty()) {
      ++lines_of_text.back();
    }
  }
  EXPECT_EQ(sections, expected);
  for (std::size_t s = 0; s < sections.size(); ++s) EXPECT_GT(lines_of_text[s], 0) << sections[s];
}

}  // namespace
}  // namespace torusml
