// Numbers for people, and the numbers that people type.
//
//   counted(2, "sample");          // "2 samples"
//   parse_number("2^-8.5", "--tolerance");
//   parse_bytes("2GB", "--memory-limit");
//   parse_integers("2..4,8", "--bits");  // {2, 3, 4, 8}
//
// Thread rule: pure functions.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/human.h"
#include "torusml/limits.h"

namespace torusml {

// "1 sample", "2 samples"; `plural` where it is not the noun and an s.
std::string counted(std::int64_t count, const std::string& noun, const std::string& plural = "");

// A decimal number or a power "2^-40". Error invalid_argument names the option.
double parse_number(const std::string& text, const std::string& option);
// Bytes, with a unit of 1000s (kB, MB, GB, TB) or of 1024s (KiB ..) or none; at least 1. Error
// invalid_argument names the option.
std::uint64_t parse_bytes(const std::string& text, const std::string& option);
// Of the options --threads and --memory-limit; an empty limit is none.
Limits parse_limits(int threads, const std::string& memory_limit);

// A list of integers and ranges: "2..5,8" is 2, 3, 4, 5, 8. Up to 1000 of them. Error
// invalid_argument names the option.
std::vector<int> parse_integers(const std::string& text, const std::string& option);

}  // namespace torusml
