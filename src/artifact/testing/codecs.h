// What tests of files share.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <set>
#include <string>

#include "base/testing/errors.h"
#include "base/testing/file_bytes.h"
#include "base/testing/temporary_folder.h"

namespace torusml {

inline const std::set<ErrorCode> kFileErrors{ErrorCode::file_truncated, ErrorCode::file_foreign,
                                             ErrorCode::file_version, ErrorCode::file_corrupt};

// Every cut and every flipped byte must be a file error.
inline void expect_fragile(const std::string& bytes,
                           const std::function<void(const std::string&)>& read) {
  EXPECT_NO_THROW(read(bytes));
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_EQ(code_of([&] { read(bytes.substr(0, size)); }), ErrorCode::file_truncated)
        << "cut at " << size;
  }
  for (std::size_t at = 0; at < bytes.size(); ++at) {
    std::string changed = bytes;
    changed[at] = static_cast<char>(changed[at] ^ 0x10);
    EXPECT_TRUE(kFileErrors.contains(code_of([&] { read(changed); }))) << "byte " << at;
  }
}

// With a folder for files.
class Codecs : public ::testing::Test {
 protected:
  std::string file(const std::string& name) const { return folder_ / name; }

 private:
  TemporaryFolder folder_;
};

}  // namespace torusml
