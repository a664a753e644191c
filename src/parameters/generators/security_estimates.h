// lattice-estimator's figures for the 128-bit line (docs/security-parameters.md has both lines and
// both attacks): commit 27a581b, RC.MATZOV, binary secret, Gaussian error of the line.
#pragma once

#include <fmt/format.h>

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <string>

namespace torusml {

struct SecurityEstimate {
  std::uint32_t dimension;
  double bits;  // log2 of operations of the better attack
};

inline constexpr SecurityEstimate kSecurityEstimates[] = {
    {512, 129.0},  {600, 128.5},  {700, 128.3},  {771, 128.3},  {838, 128.4}, {918, 128.3},
    {1024, 128.3}, {1117, 128.4}, {1536, 128.7}, {2048, 128.9}, {2500, 129.2}};

// Linear between the sampled dimensions. Beyond them the error stays at the floor while the
// dimension grows, so the last figure is a lower bound.
inline std::string security_estimate(std::uint32_t dimension) {
  std::size_t right = 0;
  while (right < std::size(kSecurityEstimates) && kSecurityEstimates[right].dimension < dimension)
    ++right;
  if (right == std::size(kSecurityEstimates))
    return fmt::format("> {:.1f}", kSecurityEstimates[right - 1].bits);
  if (right == 0) return dimension == 512 ? "129.0" : "not sampled";
  const SecurityEstimate &a = kSecurityEstimates[right - 1], &b = kSecurityEstimates[right];
  const double t = static_cast<double>(dimension - a.dimension) / (b.dimension - a.dimension);
  return fmt::format("{:.1f}", a.bits + t * (b.bits - a.bits));
}

}  // namespace torusml
