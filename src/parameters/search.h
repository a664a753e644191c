// The search for parameters, whatever the formulas: it knows that noise is linear in the small
// dimension n, that fewer levels and a smaller n cost less, and asks a model for the rest.
//
//   const Search search(TorusmlModel(128, kShippedCostTable));
//   std::optional<TfheParameters> p = search.run({.constraints = constraints});
//
// Branch and bound over intervals of n, the most promising first, so what it returns is optimal in
// the model's domain. Some milliseconds. Const use is concurrent.
#pragma once

#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "parameters/cost.h"
#include "tfhe/types.h"

namespace torusml {

// Noise that comes from the results of one kind of lookup.
struct SourceNorm {
  std::size_t constraint = 0;  // its index in the request
  double norm2 = 0;            // squared L2 norm over its results
};

// One kind of lookup or output. Tables are read in N * 2^h entries, or in N / 2^v where a rotation
// reads 2^v of them (RotationShape). The phase's standard deviation must stay below limit_sigma
// (torus units):
//   fresh_norm2 * V_fresh + bootstrap_norm2 * V_bootstrap + extra_variance
//   (+ V_keyswitch + V_modulus_switch at a lookup)
struct NoiseConstraint {
  std::string name;            // the layer, for the error
  bool is_lookup = true;       // false: a circuit output, decrypted under the big key
  double fresh_norm2 = 0;      // squared L2 norm over independent fresh inputs
  double bootstrap_norm2 = 0;  // the same over independent bootstrap outputs
  // bootstrap_norm2 by where it comes from, for choices of several key sets. The sum may exceed it.
  // None: not known.
  std::vector<SourceNorm> sources;
  std::uint64_t lookup_count = 0;  // values of this kind that are looked up for one sample
  // Of each value. They share its keyswitch, and rotations where the noise allows it.
  std::uint64_t tables = 1;
  std::uint64_t values = 2;  // size of the interval; a table has at least 2 * values entries,
                             // rounded up to a power of two (is_lookup)
  // Largest allowed standard deviation, as a function of the half step of the table that the search
  // tries: limit_sigma - table_step_weight / (4 * table_size) must exceed sigma.
  double limit_sigma = 0;
  double table_step_weight = 0;
  // Exact lookups whose values lie 2^-(index_bits + 1) of the torus apart may be wide ones, of
  // results that are numbers of result_bits bits; 0: may not.
  std::uint32_t index_bits = 0, result_bits = 0;
  // A lookup of which a wide one consists: at this modulus, and no other, in polynomials of this
  // size, with GLWE dimension 1 and 64-bit accumulators; 0: an ordinary lookup.
  std::uint64_t fixed_modulus = 0;
  std::uint32_t fixed_polynomial_size = 0;
  double extra_variance = 0;  // from elsewhere
};

// The rotations that may serve a lookup of so many tables, from coarse to fine: as many tables as
// possible side by side, fewer, one, and one in more and more shards. Each takes at least the time
// of those before it, so the first that meets the noise limit is the best.
std::vector<RotationShape> rotation_shapes(std::uint64_t tables, std::uint32_t max_extension_log2);

constexpr std::uint64_t kMostTables = std::uint64_t{1} << 20;

constexpr KeyBytes kAnyKeyBytes{std::numeric_limits<double>::infinity(),
                                std::numeric_limits<double>::infinity()};

// Noise, cost and domain of an engine. Costs are in any unit. A rotation's cost must not fall when
// n grows; the keyswitch's cost and the keys' bytes must not fall when its number of levels grows,
// and must be concave in n.
class SearchModel {
 public:
  struct Domain {
    std::vector<TfheParameters> rings;  // k, N, grouping, accumulator and glwe_variance
    std::uint32_t min_small_dimension = 0, max_small_dimension = 0;
    std::uint32_t max_bootstrap_levels = 0, max_keyswitch_levels = 0;
    std::uint32_t max_digit_bits = 0, max_keyswitch_bits = 0;                  // of b, and of b * l
    std::uint64_t max_table_size = std::numeric_limits<std::uint64_t>::max();  // N * 2^h
  };
  // intercept + slope * x
  struct Line {
    double intercept = 0, slope = 0;
  };

  virtual ~SearchModel() = default;

  virtual const Domain& domain() const = 0;
  virtual std::uint32_t max_bootstrap_bits(const TfheParameters& ring) const = 0;  // of b * l
  virtual Variance small_variance(std::uint32_t n) const = 0;

  virtual double rotation_variance(const TfheParameters& p) const = 0;  // of a bootstrap, over n
  // n at most, for this ring.
  virtual std::uint32_t max_small_dimension(const TfheParameters& ring) const = 0;
  // In the big dimension; reads the keyswitch's gadget, n and the small variance.
  virtual Line keyswitch_variance(const TfheParameters& p) const = 0;
  // In the small dimension.
  virtual Line switch_variance(std::uint64_t modulus) const = 0;

  // Of a lookup without its keyswitch, over n and expected_shards.
  virtual double rotation_cost(const TfheParameters& p) const = 0;
  virtual double expected_shards(std::uint32_t grouping_factor, std::uint32_t h) const = 0;
  virtual double keyswitch_cost(const TfheParameters& p) const = 0;
  virtual double linear_cost(const TfheParameters& p, double multiplications) const = 0;
  virtual KeyBytes key_bytes(const TfheParameters& p) const = 0;
};

struct SearchRequest {
  std::vector<NoiseConstraint> constraints;
  double linear_multiplications = 0;  // clear weights times ciphertexts, for one sample
  std::uint32_t max_extension_log2 = 0;
  std::uint32_t big_dimension = 0;  // k * N of the rings to search; 0: any
};

struct SearchResult {
  TfheParameters parameters;
  double cost = 0;
};

class Search {
 public:
  explicit Search(std::unique_ptr<const SearchModel> model);
  ~Search();

  const SearchModel& model() const { return *model_; }

  // By key limit: the cheapest parameters whose keys stay within it; nullopt where nothing
  // satisfies every constraint. Some constraint needs a bootstrap.
  std::vector<std::optional<SearchResult>> run(const SearchRequest& request,
                                               const std::vector<KeyBytes>& limits) const;
  std::optional<SearchResult> run(const SearchRequest& request) const;

 private:
  struct Tables;
  std::unique_ptr<const SearchModel> model_;
  std::unique_ptr<const Tables> tables_;
};

}  // namespace torusml
