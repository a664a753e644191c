// Numbers for people.
//
//   human_bytes(54'300'000);       // "54.3 MB"
//   human_seconds(0.0032);         // "3.20 ms"
//   human_probability(0x1p-40);    // "2^-40"
//
// Thread rule: pure functions.
#pragma once

#include <cstdint>
#include <string>

namespace torusml {

// Three digits, as many as people read.
std::string three_digits(double value);

std::string human_bytes(std::uint64_t bytes);  // 1 kB = 1000 bytes
std::string human_seconds(double seconds);
// A power of two below 0.1 %, per cent above.
std::string human_probability(double probability);

}  // namespace torusml
