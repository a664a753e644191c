// Numbers on a benchmark's command line.
#pragma once

#include <fmt/format.h>

#include <charconv>
#include <string>
#include <system_error>

#include "torusml/error.h"

namespace torusml {

// A positive integer, or `fallback` where it is not given. Error invalid_argument with the usage.
inline int argument(int count, char** arguments, int index, int fallback, const char* usage) {
  if (index >= count) return fallback;
  const std::string text = arguments[index];
  int value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error == std::errc() && end == text.data() + text.size() && value >= 1) return value;
  throw Error(ErrorCode::invalid_argument, fmt::format("'{}' is not a positive integer", text), "",
              usage);
}

}  // namespace torusml
