// The demands by which parameters are judged: one lookup of 1 to 16 bits after a linear map of norm
// 2^0 to 2^10, at four failure probabilities.
#pragma once

#include <cmath>
#include <vector>

#include "parameters/noise.h"
#include "parameters/optimizer.h"
#include "parameters/wide_lookups.h"

namespace torusml {

struct Demand {
  int bits = 0, norm_log2 = 0, p_error_log2 = 0;

  ParameterRequest request() const {
    NoiseConstraint c;
    c.name = "lookup";
    c.bootstrap_norm2 = std::exp2(2 * norm_log2);
    c.lookup_count = 1;
    c.values = std::uint64_t{1} << bits;
    c.limit_sigma = std::exp2(-(bits + 2)) / kappa(std::exp2(p_error_log2));
    if (bits >= kLeastWideBits) c.index_bits = c.result_bits = static_cast<std::uint32_t>(bits);
    return {.constraints = {c}};
  }

  // 2 to 8 bits at norm 1: where speed is promised.
  bool is_central() const { return bits >= 2 && bits <= 8 && norm_log2 == 0; }
};

inline std::vector<Demand> demand_grid(const std::vector<int>& p_errors_log2) {
  std::vector<Demand> demands;
  for (const int p_error_log2 : p_errors_log2) {
    for (int bits = 1; bits <= 16; ++bits) {
      for (int norm_log2 = 0; norm_log2 <= 10; ++norm_log2)
        demands.push_back({bits, norm_log2, p_error_log2});
    }
  }
  return demands;
}

}  // namespace torusml
