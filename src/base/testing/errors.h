// For tests: what an action ends with that must fail.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <string>

#include "torusml/error.h"

namespace torusml {

// The error that the action ends with; where it ends well, one of the code `internal`.
inline Error error_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error;
  }
  return {ErrorCode::internal, "no error"};
}

// Of the error that the action ends with; 0 where it ends well.
inline ErrorCode code_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.code();
  }
  return static_cast<ErrorCode>(0);
}

// The text of the error that the action ends with, which has to be of this code.
inline std::string error_text(ErrorCode code, const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    EXPECT_EQ(error_code_name(error.code()), error_code_name(code)) << error.what();
    return error.what();
  }
  ADD_FAILURE() << "no error; " << error_code_name(code) << " is due";
  return "";
}

// The action has to end with an error of this code, whose text has this part.
inline void expect_error(ErrorCode code, const std::string& part,
                         const std::function<void()>& action) {
  const std::string text = error_text(code, action);
  EXPECT_NE(text.find(part), std::string::npos) << text;
}

}  // namespace torusml
