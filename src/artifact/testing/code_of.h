// Tests only.
#pragma once

#include <functional>

#include "torusml/error.h"

namespace torusml {

// Of the error that the action ends with; 0 where it ends well.
inline ErrorCode code_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.code();
  }
  return static_cast<ErrorCode>(0);
}

}  // namespace torusml
