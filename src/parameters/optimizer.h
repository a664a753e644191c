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
  std::uint32_t big_dimension = 0;  // k * N of the key sets to choose from; 0: any
  // Limits on evaluation keys; a choice beyond them is no choice. 0: none.
  double max_memory_bytes = 0, max_wire_bytes = 0;
  CostTable cost_table = kShippedCostTable;
};

// One of a circuit's key sets.
struct KeySet {
  std::string name = "custom";  // or the catalogue's
  TfheParameters parameters;
  Variance bootstrap, keyswitch;  // of one ciphertext; 0 without a bootstrap
};

// With the variances of these parameters.
KeySet make_key_set(const TfheParameters& parameters);

struct ParameterChoice {
  // One; or two with the same big key, the set of the more demanding lookups first (split.h).
  std::vector<KeySet> key_sets;
  std::vector<std::size_t> set_of;            // by constraint: its key set's index; 0 for outputs
  std::vector<std::uint32_t> extension_log2;  // by constraint; 0 for outputs
  std::vector<std::uint32_t> tables_log2;     // by constraint; empty: all 0
  std::vector<WideShape> wide;                // by constraint; index_bits 0: an ordinary lookup
  // By constraint: predicted, at the lookup or the output; with two key sets a bound.
  std::vector<Variance> noise;
  Variance fresh;               // of one ciphertext
  double cost_ms_per_core = 0;  // of one sample, from the cost model
  KeyBytes key_bytes;           // of all key sets; 0 without a bootstrap

  const KeySet& key_set_of(std::size_t constraint) const { return key_sets[set_of[constraint]]; }
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

// The same among given key sets, all with a bootstrap; the name stays "custom". nullopt when none
// suits. Errors as above.
std::optional<ParameterChoice> choose_among(const std::vector<TfheParameters>& key_sets,
                                            const ParameterRequest& request);

// The best choices for keys that come beside others of `held` bytes: of each key class in turn the
// fastest with which all keys together belong to it, where it is faster than those before it. For
// requests that need a bootstrap. Errors as above.
std::vector<ParameterChoice> choose_by_class(const ParameterRequest& request, const KeyBytes& held);
std::vector<ParameterChoice> choose_by_class_among(const std::vector<TfheParameters>& key_sets,
                                                   const ParameterRequest& request,
                                                   const KeyBytes& held);

// Whether some lookup of the choice is a wide one.
bool has_wide_lookup(const ParameterChoice& choice);

// Whether `a` is to be taken where `b` would do as well: by the rule of the key classes.
bool is_preferable(const ParameterChoice& a, const ParameterChoice& b);

// One key set, each lookup with its least table; nullopt where it does not satisfy a constraint.
std::optional<ParameterChoice> apply_parameters(const TfheParameters& parameters,
                                                const ParameterRequest& request);

// The same for several key sets that share the big key; set_of: by constraint, its set's index.
// Noise counts by sources where these are known, otherwise as if all came from the noisiest set.
std::optional<ParameterChoice> apply_key_sets(const std::vector<TfheParameters>& key_sets,
                                              const std::vector<std::size_t>& set_of,
                                              const ParameterRequest& request);

}  // namespace torusml
