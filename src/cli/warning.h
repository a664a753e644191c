// What is not as asked, but no error.
#pragma once

#include <fmt/format.h>

#include <cstdio>
#include <string>

namespace torusml {

// A line on stderr; none for an empty text.
inline void print_warning(const std::string& text) {
  if (!text.empty()) fmt::print(stderr, "torusml: warning: {}\n", text);
}

}  // namespace torusml
