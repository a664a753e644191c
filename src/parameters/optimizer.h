// Parameter search: the cheapest key set at which every lookup and every output meets its noise
// limit.
//
//   ParameterRequest request{.security_bits = 128, .constraints = {...}};
//   ParameterChoice choice = choose_parameters(request);
//
// Cost: exhaustive over a bounded grid, some milliseconds. Pure function.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "tfhe/types.h"

namespace torusml {

// One kind of lookup or output. The phase's standard deviation must stay below limit_sigma (torus
// units):
//   fresh_norm2 * V_fresh + bootstrap_norm2 * V_bootstrap  (+ V_keyswitch + V_modulus_switch at a
//   lookup)
struct NoiseConstraint {
  std::string name;                // the layer, for the error
  bool is_lookup = true;           // false: a circuit output, decrypted under the big key
  double fresh_norm2 = 0;          // squared L2 norm over independent fresh inputs
  double bootstrap_norm2 = 0;      // the same over independent bootstrap outputs
  std::uint64_t lookup_count = 0;  // bootstraps of this kind for one sample
  std::uint64_t values = 2;        // size of the interval; a table has at least 2 * values entries,
                                   // rounded up to a power of two (is_lookup)
  // Largest allowed standard deviation, as a function of the half step of the table that the search
  // tries: limit_sigma - table_step_weight / (4 * table_size) must exceed sigma, where table_size =
  // N * 2^h.
  double limit_sigma = 0;
  double table_step_weight = 0;
};

struct ParameterRequest {
  int security_bits = 128;  // 128 or 132
  std::vector<NoiseConstraint> constraints;
  std::uint32_t max_extension_log2 = 6;
};

struct ParameterChoice {
  TfheParameters parameters;
  std::vector<std::uint32_t> extension_log2;  // by constraint; 0 for outputs
  std::vector<Variance> noise;           // by constraint: predicted, at the lookup or the output
  Variance fresh, bootstrap, keyswitch;  // of one ciphertext
  double cost_ms_per_core = 0;           // of all lookups of one sample, from the cost model
};

// nullopt when nothing in the search space satisfies every constraint; `tightest` then names the
// constraint that alone has no solution (the first such), or says "all constraints together" when
// each alone has one. Error invalid_argument: no constraints, norms or limits that are negative,
// not finite, or a limit of 0, an unknown security level, max_extension_log2 above 10.
std::optional<ParameterChoice> choose_parameters(const ParameterRequest& request,
                                                 std::string* tightest = nullptr);

}  // namespace torusml
