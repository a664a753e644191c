// The Plan: where integers become torus elements. Per tensor: torus scale, centre, noise; per
// lookup: table size, policy, failure probabilities; per output the same. The simulated and the
// encrypted executor run the same Plan. Printable, and it reads back.
//
// Encoding of a value v of tensor t: phase = scale * (v - center), on the torus [-1/2, 1/2).
// A lookup, unless it is a wide one, adds 1/4, so that its interval lies in the half torus [0,
// 1/2), guard bands on both sides. An odd one fills the whole torus: its tables are steps between
// two values, and the half torus beyond the table gives the other value, as its negative about the
// mean of the two.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "circuit/circuit.h"
#include "parameters/catalogue.h"
#include "parameters/optimizer.h"
#include "tfhe/types.h"

namespace torusml {

// rounded: exact, of tables that take accumulators with their lowest bits rounded away
// (compiler/rounding.h). automatic: chosen for each layer by the compiler
// (compiler/precision_search.h), never by a plan.
enum class Precision { exact, tolerant, rounded, automatic };
enum class Profile { private_results, shared_results };

std::string to_string(Precision precision);
std::string to_string(Profile profile);
Precision parse_precision(const std::string& text);  // error unknown_option
Profile parse_profile(const std::string& text);      // error unknown_option

// More would save less than the keys of a third one are worth.
inline constexpr int kMostKeySets = 2;

// Of one layer's lookups or of one output, in place of what PlanOptions says for all.
struct LayerPrecision {
  Precision policy = Precision::exact;
  double tolerance = 0;  // tolerant only; 0: PlanOptions::tolerance

  friend bool operator==(const LayerPrecision&, const LayerPrecision&) = default;
};

// Whether results travel packed in GLWE ciphertexts (tfhe/result_packing.h). automatic: where the
// plan's key sets have a trace anyway. on: one of them is given a trace if none has.
enum class PackOutputs { automatic, on, off };

std::string to_string(PackOutputs pack);
PackOutputs parse_pack_outputs(
    const std::string& text);  // "auto", "on", "off"; error unknown_option

struct PlanOptions {
  Precision precision = Precision::exact;
  Profile profile = Profile::private_results;
  // Per lookup and per output value. 0: the profile's default, 2^-40 (private) or 2^-128 (shared).
  double p_error = 0;
  // Of one whole sample; overrides p_error when not 0.
  double global_p_error = 0;
  // Standard deviation of all noise at a tolerant lookup, as a fraction of the tensor's interval.
  double tolerance = 0.0027621358640099513;  // 2^-8.5
  // By the name of a lookup's or an output's node. Not part of a plan's text or of files, where
  // every lookup says its own.
  std::map<std::string, LayerPrecision> layers;
  // If not 0, tolerance becomes 2^-approximate_bits / (2 kappa(p_error)): noise stays within half
  // of that part of the interval, but for p_error.
  int approximate_bits = 0;
  int security_bits = 128;
  int max_exact_bits = 16;  // wider exact lookups are refused
  // Where key sets come from; 132 bits of security, and what no entry of the catalogue suits, is
  // searched for all the same.
  KeySetSource key_set_source = KeySetSource::catalogue;
  // 1 or 2: whether demanding lookups may have a key set of their own, where that saves enough time
  // (parameters/split.h).
  int max_key_sets = 2;
  // Not part of a plan's text or of files, where every output says its own.
  PackOutputs pack_outputs = PackOutputs::automatic;
  // Times that choices and predictions rest on. Not part of a plan's text or of files.
  CostTable cost_table = kShippedCostTable;
};

// Of a clear value noise is 0, and scale and centre mean nothing but before an output.
struct TensorPlan {
  double scale = 0;   // torus units per integer
  double center = 0;  // integer (or half integer) at phase 0
  Variance noise;     // predicted, of the ciphertexts that carry the tensor
};

struct LookupPlan {
  Precision policy = Precision::exact;
  double tolerance = 0;     // asked for, of a tolerant lookup; 0: exact
  std::size_t key_set = 0;  // which of the plan's bootstraps it
  RotationShape rotation;   // of an ordinary lookup
  WideShape wide;           // index_bits 0: an ordinary lookup
  bool is_odd = false;      // without a bit of padding
  double guard = 0;         // band on each side of the interval, in units of one integer
  Variance noise;           // at the table: keyswitch and modulus switch included
  // That the table is read one entry off or more, and that it is read more than one off; means over
  // the borders between values.
  double step_probability = 0;
  double far_probability = 0;
  double flip_probability = 0;  // that the result differs, for a value drawn uniformly
  double wrap_probability =
      0;  // that an end of the interval leaves its guard band (a wrong answer)
};

struct OutputPlan {
  Precision policy = Precision::exact;
  double tolerance = 0;  // as of a lookup
  // Results leave with words of so many bits, rounded; 64: as they are.
  int wire_bits = 64;
  bool packed = false;  // many results in a ciphertext; the words are those of its mask and bodies
  double guard = 0;
  Variance noise;               // rounding and packing included
  double flip_probability = 0;  // off by one or more, without wrap
  double wrap_probability = 0;
};

// What a plan of two key sets was preferred to.
struct OneKeySet {
  std::string name;
  double cost_ms_per_core = 0;
  KeyBytes key_bytes;
};

struct Plan {
  std::string circuit_name;
  PlanOptions options;  // p_error resolved: never 0
  // One, without bootstrap where nothing needs it; or two with the same big key, the set of the
  // more demanding lookups first. Ciphertexts do not belong to any of them.
  std::vector<KeySet> key_sets;
  Variance fresh;
  std::vector<TensorPlan> tensors;            // by ValueId
  std::map<std::size_t, LookupPlan> lookups;  // by node index, of encrypted values
  std::map<std::size_t, OutputPlan> outputs;  // by node index
  std::int64_t lookup_count = 0;              // tables read for one sample, each once per value
  double cost_ms_per_core = 0;                // of one sample, from the cost model
  double sample_p_error = 0;  // that anything goes wrong in one sample (flips of tolerant apart)
  std::optional<OneKeySet> one_key_set;  // with two key sets: the best choice of one

  LweDimension big_dimension() const { return key_sets.front().parameters.big_dimension(); }
  const KeySet& key_set_of(const LookupPlan& lookup) const { return key_sets[lookup.key_set]; }
};

std::vector<TfheParameters> parameters_of(const std::vector<KeySet>& key_sets);
// "n512-k4-s604-g2-b1x23-t5x2-w32 + n2048-..."
std::string names_of(const std::vector<KeySet>& key_sets);
// Of all key sets together.
KeyBytes key_bytes(const std::vector<KeySet>& key_sets);
// The one whose trace packs results; nullopt where none has one.
std::optional<std::size_t> packing_key_set(const std::vector<KeySet>& key_sets);
// What results take on their way: rounding to words of so many bits, and packing.
Variance wire_noise(const std::vector<KeySet>& key_sets, int wire_bits, bool packed);
// Of one sample.
std::vector<std::int64_t> lookups_by_key_set(const Plan& plan, const Circuit& circuit);

// Errors: accumulator_too_wide (layer, bits, way out), no_parameters, profile_forbids,
// p_error_out_of_range, invalid_argument, unknown_option (a layer that the circuit has not),
// not_supported (pack_outputs "on" where results cannot be packed).
Plan make_plan(const Circuit& circuit, const PlanOptions& options);

// The same with another parameter search, which may choose several key sets. Tests use it for key
// sets of a size that no search may return.
using ParameterSearch = std::function<std::optional<ParameterChoice>(
    const ParameterRequest& request, std::string* tightest)>;
Plan make_plan(const Circuit& circuit, const PlanOptions& options, const ParameterSearch& search);

// What the lookups of one sample take. Several tables of one value share keyswitches, and rotations
// where the plan says so; a wide lookup has a keyswitch for each of its rotations.
struct BootstrapCount {
  std::int64_t rotations = 0, keyswitches = 0;
};
BootstrapCount count_bootstraps(const Circuit& circuit, const Plan& plan);

// Milliseconds of one core that each lookup takes for one sample, by node index: keyswitches and
// rotations by the plan's cost table. Together with linear_cost they are plan.cost_ms_per_core; a
// plan that was made by another table, which files do not keep, is divided in proportion.
std::map<std::size_t, double> cost_by_lookup(const Circuit& circuit, const Plan& plan);
// What the lookups leave: the linear maps.
double linear_cost(const Circuit& circuit, const Plan& plan);

// Standard deviation of the noise at a lookup or an output as a fraction of its interval, upper -
// lower; 0 for an interval of one value. `node`: an index in plan.lookups or plan.outputs.
double relative_sigma(const Circuit& circuit, const Plan& plan, std::size_t node);
// log2(interval / standard deviation of the noise): how finely a value is told apart where it is
// read. nullopt where nothing limits it: one value, or no noise.
std::optional<double> effective_bits(const Circuit& circuit, const Plan& plan, std::size_t node);

// A tolerance for which plans find key sets of this degree with tables of N entries, where results
// of other lookups bring little noise: 5/4 of the least noise of keyswitch and modulus switch among
// the catalogue's sets of that degree, as a fraction of the interval that guard bands at p_error
// 2^-40 leave (about 5.7 / N). Error invalid_argument for a degree that the catalogue does not
// have.
double tolerance_at(std::uint32_t polynomial_size);

std::string print(const Plan& plan, const Circuit& circuit);
Plan parse_plan(const std::string& text);  // error invalid_circuit with the line

}  // namespace torusml
