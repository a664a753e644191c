// Writes docs/parameters.md from the catalogue.
#pragma once

#include <fmt/format.h>

#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "parameters/catalogue.h"
#include "parameters/cost.h"
#include "parameters/generators/demand_grid.h"
#include "parameters/generators/security_estimates.h"
#include "parameters/noise.h"

namespace torusml {

class ParametersPage {
 public:
  std::string run() {
    serve();
    std::string text = kIntroduction;
    text += "\n## Security and noise\n\n" + std::string(kSecurityText);
    text +=
        "\n| key set | n | log2 sigma | bits | k N | log2 sigma | bits | log2 sigma bootstrap | "
        "log2 sigma keyswitch |\n|---|---|---|---|---|---|---|---|---|\n";
    for (const TfheParameters& p : catalogue()) text += security_row(p);
    text += "\n## Sizes, time, use\n\n" + std::string(kSizesText);
    text +=
        "\n| key set | memory MB | wire MB | ms at h = 0, 1, 2 | 2^-40: bits (norm 2^) | 2^-128: "
        "bits (norm 2^) |\n|---|---|---|---|---|---|\n";
    for (const TfheParameters& p : catalogue()) text += sizes_row(p);
    return text;
  }

 private:
  static constexpr const char* kIntroduction =
      R"(# Key sets

(This page is written by a test, `ParametersPage.*` in src/parameters/catalogue_test.cc, from the catalogue. Do not edit it.)

A compiled model names its key set, or two. By default it comes from this catalogue, so that models share keys and a recompiled model often
accepts the keys of its predecessor; `parameters="custom"` (`--parameters custom`) searches freely instead. The catalogue is for the
128-bit line and made for p_error 2^-40 and 2^-128; it serves any p_error, at more than the least cost. At 132 bits, and where no
entry suits, the key set is custom, and the plan says so.

A name has all of a set's parameters: `n` degree N, `k` GLWE dimension, `s` small dimension n, `g` bits of the small key a step of
the blind rotation consumes, `b` levels x log2 of the base of the bootstrap, `t` of the keyswitch, `w` bits of the accumulator's
words, and in sets for [wide lookups](wide-lookups.md) `c` of the GGSW ciphertexts of circuit bootstrapping and `r` of its trace. Every entry is the optimizer's choice for some demand of a grid (one lookup of 1 to 16 bits after a linear map of L2 norm 2^0
to 2^10); of all these choices, the 40 were kept that serve the whole grid with the least loss of time.

## How a set is chosen

The fastest set wins, by the [cost model](../src/parameters/cost.h) and the shipped table of kernel times, among those whose keys
belong to a class: up to 130 MB in memory and 40 MB on the wire, up to 190 and 70 MB, up to 750 and 250 MB, or any. A set of a larger
class is taken where it needs at most 65 % of the time of the best of the smaller ones, or where these have none. Keys are sent and
held once and time is spent at every lookup, so speed decides within a class; but a few per cent are no reason to hold half as much
again. `--cost-table FILE` puts times measured elsewhere in the place of the shipped ones.

## Two key sets

Where a few lookups are demanding and many are not, the many may have a key set of their own (`parameters/split.h`). Both sets
bootstrap under the same big key, so k N is the same, and each small key is a beginning of it: ciphertexts go from a lookup of one set
to a lookup of the other as they are, sums mix both, and there is one secret key. The price is a second set of evaluation keys, and
that the cheap set must have the k N of the precise one.

A second set is taken where it brings a sample's predicted time down to 85 % of that of the best single set, and to 65 % if both
sets' keys together belong to a larger class. Lookups are divided by their limits of noise, and noise counts by the set that it comes
from. `torusml inspect` says which layer has which set, and what one set would have cost; `max_key_sets=1` (`--max-key-sets 1`)
forbids a second. More than two are not tried.
)";
  static constexpr const char* kSecurityText =
      R"(Both keys of every set lie on the [128-bit line](security-parameters.md): the error is the least that the line allows at the
dimension. `bits` is lattice-estimator's figure there (log2 of operations of the better of two attacks), interpolated between the
sampled dimensions; beyond 2500 the error keeps its floor and the last figure is a lower bound. `sigma bootstrap` is the noise of a
lookup's result, `sigma keyswitch` what the keyswitch adds (docs/noise.md).
)";
  static constexpr const char* kSizesText =
      R"(Memory: prepared evaluation keys. Wire: seeded and packed. Time: keyswitch and blind rotation of one lookup on one core, predicted
from the shipped table; a table of N 2^h entries. The last columns say for which lookups of 2^bits values a set is the
catalogue's choice at norm 1 to 2^10.
)";

  // By name and p_error, the demands that a set is chosen for.
  void serve() {
    for (const Demand& demand : demand_grid({-40, -128})) {
      const std::optional<ParameterChoice> choice = choose_among(catalogue(), demand.request());
      if (!choice) continue;
      const std::string name = key_set_name(choice->key_sets[0].parameters);
      std::vector<Demand>& served = served_[{name, demand.p_error_log2}];
      served.push_back(demand);
    }
  }

  // "4 (0-3), 5 (0)"
  std::string uses(const std::string& name, int p_error_log2) const {
    const auto found = served_.find({name, p_error_log2});
    if (found == served_.end()) return "-";
    std::string text;
    const std::vector<Demand>& demands = found->second;
    for (std::size_t i = 0; i < demands.size();) {
      std::size_t end = i;
      while (end + 1 < demands.size() && demands[end + 1].bits == demands[i].bits &&
             demands[end + 1].norm_log2 == demands[end].norm_log2 + 1)
        ++end;
      const int first = demands[i].norm_log2, last = demands[end].norm_log2;
      text +=
          fmt::format("{}{} ({})", text.empty() ? "" : ", ", demands[i].bits,
                      first == last ? std::to_string(first) : fmt::format("{}-{}", first, last));
      i = end + 1;
    }
    return text;
  }

  static double sigma_log2(Variance v) { return 0.5 * std::log2(v.value); }

  static std::string security_row(const TfheParameters& p) {
    return fmt::format("| `{}` | {} | {:.2f} | {} | {} | {:.2f} | {} | {:.2f} | {:.2f} |\n",
                       key_set_name(p), p.small_dimension.value, sigma_log2(p.small_variance),
                       security_estimate(p.small_dimension.value), p.big_dimension().value,
                       sigma_log2(p.glwe_variance), security_estimate(p.big_dimension().value),
                       sigma_log2(blind_rotation_variance(p)), sigma_log2(keyswitch_variance(p)));
  }

  std::string sizes_row(const TfheParameters& p) const {
    const auto ms = [&](std::uint32_t h) { return lookup_ms(p, h, kShippedCostTable); };
    const std::string name = key_set_name(p);
    return fmt::format("| `{}` | {:.1f} | {:.1f} | {:.1f}, {:.1f}, {:.1f} | {} | {} |\n", name,
                       memory_key_bytes(p) / 1e6, wire_key_bytes(p) / 1e6, ms(0), ms(1), ms(2),
                       uses(name, -40), uses(name, -128));
  }

  std::map<std::pair<std::string, int>, std::vector<Demand>> served_;
};

}  // namespace torusml
