// Numbers for people.
//
//   human_bytes(54'300'000);       // "54.3 MB"
//
// Thread rule: pure functions.
#pragma once

#include <cstdint>
#include <string>

namespace torusml {

// Three digits, as many as people read.
std::string three_digits(double value);

std::string human_bytes(std::uint64_t bytes);  // 1 kB = 1000 bytes

}  // namespace torusml
