// Numbers for people, and the numbers that people type.
//
//   human_bytes(54'300'000);       // "54.3 MB"
//   human_seconds(0.0032);         // "3.2 ms"
//   human_probability(0x1p-40);    // "2^-40"
//   parse_number("2^-8.5", "--tolerance");
//   parse_integers("2..4,8", "--bits");       // {2, 3, 4, 8}
//
// Thread rule: pure functions.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace torusml {

std::string human_bytes(std::uint64_t bytes);  // 1 kB = 1000 bytes
std::string human_seconds(double seconds);
// A power of two below 0.1 %, per cent above.
std::string human_probability(double probability);
// "1 sample", "2 samples"
std::string counted(std::int64_t count, const std::string& noun);

// A decimal number or a power "2^-40". Error invalid_argument names the option.
double parse_number(const std::string& text, const std::string& option);

// A list of integers and ranges: "2..5,8" is 2, 3, 4, 5, 8. Up to 1000 of them. Error
// invalid_argument names the option.
std::vector<int> parse_integers(const std::string& text, const std::string& option);

}  // namespace torusml
