// Parameter choice: the cheapest key set at which every lookup and every output meets its noise
// limit.
//
//   ParameterRequest request{.security_bits = 128, .constraints = {...}};
//   ParameterChoice choice = *choose_parameters(request);
//
// Cost: some milliseconds, tens with a hundred different lookups. Pure functions.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "parameters/cost_table.h"
#include "parameters/search.h"
#include "parameters/shipped_cost_table.h"
#include "parameters/torusml_model.h"
#include "tfhe/types.h"

namespace torusml {

struct ParameterRequest {
  int security_bits = 128;  // 128 or 132
  std::vector<NoiseConstraint> constraints;
  double linear_multiplications = 0;  // clear weights times ciphertexts, for one sample
  std::uint32_t max_extension_log2 = kMaxExtensionLog2;
  // Limits on evaluation keys; a choice beyond them is no choice. 0: none.
  double max_memory_bytes = 0, max_wire_bytes = 0;
  CostTable cost_table = kShippedCostTable;
};

struct ParameterChoice {
  std::string key_set = "custom";  // or the catalogue's name
  TfheParameters parameters;
  std::vector<std::uint32_t> extension_log2;  // by constraint; 0 for outputs
  std::vector<std::uint32_t> tables_log2;     // by constraint; empty: all 0
  std::vector<WideShape> wide;                // by constraint; index_bits 0: an ordinary lookup
  std::vector<Variance> noise;           // by constraint: predicted, at the lookup or the output
  Variance fresh, bootstrap, keyswitch;  // of one ciphertext
  double cost_ms_per_core = 0;           // of one sample, from the cost model
  KeyBytes key_bytes;                    // 0 without a bootstrap

  // Of a constraint's lookup, if it is an ordinary one.
  RotationShape rotation(std::size_t constraint) const {
    return {extension_log2[constraint], tables_log2.empty() ? 0 : tables_log2[constraint]};
  }
};

// Keys come in classes: a choice of a larger class must take at most kWorthLargerKeys of the time
// of the best choice of a smaller one. Keys are sent and held once and time is spent at every
// lookup, so speed decides within a class; but a few per cent are no reason to hold half as much
// again.
constexpr KeyBytes kKeyClasses[] = {{130e6, 40e6}, {190e6, 70e6}, {750e6, 250e6}, kAnyKeyBytes};
constexpr double kWorthLargerKeys = 0.65;

// nullopt when nothing in the search space satisfies every constraint; `tightest` then names the
// constraint that alone has no solution (the first such), or says "all constraints together" when
// each alone has one, or kKeyLimit when the limits on key bytes alone forbid it. Error
// invalid_argument: no constraints, norms or limits that are negative, not finite, or a limit of 0,
// an unknown security level, max_extension_log2 above kMaxExtensionLog2, a cost table with entries
// that are not positive.
constexpr const char* kKeyLimit = "the limit on evaluation keys";
std::optional<ParameterChoice> choose_parameters(const ParameterRequest& request,
                                                 std::string* tightest = nullptr);

// The same among given key sets, all with a bootstrap; key_set stays "custom". nullopt when none
// suits. Errors as above.
std::optional<ParameterChoice> choose_among(const std::vector<TfheParameters>& key_sets,
                                            const ParameterRequest& request);

// Whether some lookup of the choice is a wide one.
bool has_wide_lookup(const ParameterChoice& choice);

// Whether `a` is to be taken where `b` would do as well: by the rule of the key classes.
bool is_preferable(const ParameterChoice& a, const ParameterChoice& b);

// One key set, each lookup with its least table; nullopt where it does not satisfy a constraint.
std::optional<ParameterChoice> apply_parameters(const TfheParameters& parameters,
                                                const ParameterRequest& request);

}  // namespace torusml
