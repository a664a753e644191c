// Files of the repository that a test writes anew and compares. With TORUSML_UPDATE_GOLDEN set the
// test replaces the file instead; look at the difference before you commit it.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>

namespace torusml {

inline std::string read_golden(const std::string& path) {
  std::ifstream file(std::string(TORUSML_SOURCE_DIR) + "/" + path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

inline void expect_golden(const std::string& path, const std::string& text) {
  if (std::getenv("TORUSML_UPDATE_GOLDEN") != nullptr) {
    std::ofstream file(std::string(TORUSML_SOURCE_DIR) + "/" + path);
    file << text;
    ASSERT_TRUE(file.flush()) << path;
    return;
  }
  std::istringstream expected(read_golden(path)), actual(text);
  std::string expected_line, actual_line;
  for (int line = 1; std::getline(actual, actual_line); ++line) {
    ASSERT_TRUE(std::getline(expected, expected_line)) << path << " ends before line " << line;
    ASSERT_EQ(actual_line, expected_line)
        << path << " line " << line << ": TORUSML_UPDATE_GOLDEN=1 writes it anew";
  }
  EXPECT_FALSE(std::getline(expected, expected_line)) << path << " goes on: " << expected_line;
}

}  // namespace torusml
