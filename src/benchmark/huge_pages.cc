#include "benchmark/huge_pages.h"

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <string>

namespace torusml {

std::optional<std::size_t> huge_page_bytes(std::span<const std::uint8_t> range) {
  const auto begin = reinterpret_cast<std::uintptr_t>(range.data()), end = begin + range.size();
  std::ifstream pages("/proc/self/smaps");
  if (!pages) return std::nullopt;
  std::size_t huge = 0;
  bool is_inside = false;
  for (std::string line; std::getline(pages, line);) {
    std::uintptr_t first = 0, last = 0;
    std::size_t kilobytes = 0;
    if (std::sscanf(line.c_str(), "%zx-%zx ", &first, &last) == 2) {
      is_inside = first < end && begin < last;
    } else if (is_inside && (std::sscanf(line.c_str(), "AnonHugePages: %zu", &kilobytes) == 1 ||
                             std::sscanf(line.c_str(), "ShmemPmdMapped: %zu", &kilobytes) == 1 ||
                             std::sscanf(line.c_str(), "FilePmdMapped: %zu", &kilobytes) == 1)) {
      huge += kilobytes * 1024;
    }
  }
  return std::min(huge, range.size());
}

}  // namespace torusml
