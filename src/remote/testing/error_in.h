// For tests: the error that an action ends with.
#pragma once

#include <functional>
#include <stdexcept>

#include "torusml/error.h"

namespace torusml {

inline Error error_in(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error;
  }
  throw std::runtime_error("no error");
}

}  // namespace torusml
