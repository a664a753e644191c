#include "cli/named_files.h"

#include <gtest/gtest.h>

#include "torusml/error.h"

namespace torusml {
namespace {

using Strings = std::vector<std::string>;

TEST(NamedFiles, OneTensorNeedsNoName) {
  EXPECT_EQ(resolve_files({"x.npy"}, {"x"}, "--input"), Strings{"x.npy"});
  EXPECT_EQ(resolve_files({"x=x.npy"}, {"x"}, "--input"), Strings{"x.npy"});
  EXPECT_EQ(resolve_files({"a=b.npy"}, {"x"}, "--input"), Strings{"a=b.npy"});
}

TEST(NamedFiles, SeveralComeInTheModelsOrder) {
  EXPECT_EQ(resolve_files({"b=2.npy", "a=1.npy"}, {"a", "b"}, "--input"),
            (Strings{"1.npy", "2.npy"}));
  EXPECT_EQ(resolve_files({"a=1", "a=b=2"}, {"a", "a=b"}, "--input"), (Strings{"1", "2"}));
}

TEST(NamedFiles, WrongUseListsTheNames) {
  for (const Strings& arguments :
       {Strings{}, Strings{"a=1"}, Strings{"1", "2"}, Strings{"a=1", "a=2"}, Strings{"a=1", "c=2"},
        Strings{"a=1", "b=2", "c=3"}}) {
    try {
      resolve_files(arguments, {"a", "b"}, "--input");
      ADD_FAILURE();
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::invalid_argument);
      EXPECT_EQ(error.hint(), "--input a=FILE --input b=FILE");
    }
  }
  EXPECT_THROW(resolve_files({"1", "2"}, {"x"}, "--input"), Error);
}

}  // namespace
}  // namespace torusml
