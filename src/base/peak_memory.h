// The memory that a call really takes. Tests only.
#pragma once

#include <malloc.h>

#include <algorithm>
#include <cstdint>
#include <fstream>
#include <optional>
#include <string>

namespace torusml {

inline std::optional<std::uint64_t> memory_status(const std::string& field) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with(field)) return std::stoull(line.substr(field.size() + 1)) * 1024;
  }
  return std::nullopt;
}

// Bytes by which the process grew at most during the call; none if the system does not tell. What
// was freed before goes back to the system first: the call would take it, and nothing would grow.
std::optional<std::uint64_t> peak_growth(const auto& call) {
#if defined(__GLIBC__)
  malloc_trim(0);
#endif
  std::ofstream reset("/proc/self/clear_refs");
  if (!(reset << "5" << std::flush)) return std::nullopt;
  const auto before = memory_status("VmRSS");
  call();
  const auto peak = memory_status("VmHWM");
  if (!before || !peak) return std::nullopt;
  return *peak - std::min(*peak, *before);
}

}  // namespace torusml
