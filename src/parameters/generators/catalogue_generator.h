// Makes the catalogue: of all key sets that the optimizer chooses for some demand, the 40 that
// together serve every demand with the least loss of time against its own best set.
#pragma once

#include <algorithm>
#include <cmath>
#include <string>
#include <tuple>
#include <vector>

#include "parameters/catalogue.h"
#include "parameters/generators/demand_grid.h"

namespace torusml {

class CatalogueGenerator {
 public:
  static constexpr std::size_t kSize = 40;

  std::vector<TfheParameters> run() {
    collect();
    weigh();
    while (chosen_.size() < kSize) add_best();
    while (exchange()) {
    }
    std::vector<TfheParameters> result;
    for (const std::size_t c : chosen_) result.push_back(candidates_[c]);
    std::ranges::sort(result, {}, [](const TfheParameters& p) {
      return std::tuple(p.polynomial_size.value, p.glwe_dimension.value, p.small_dimension.value,
                        key_set_name(p));
    });
    return result;
  }

 private:
  // Loss where a set does not serve a demand, so that serving all comes first; and what a demand
  // counts where speed is promised.
  static constexpr double kUnserved = 1000, kCentralWeight = 30, kLargeLoss = 0.34;

  static std::size_t key_class(const KeyBytes& bytes) {
    std::size_t c = 0;
    while (bytes.memory > kKeyClasses[c].memory || bytes.wire > kKeyClasses[c].wire) ++c;
    return c;
  }

  void collect() {
    for (const Demand& demand : demand_grid({-40, -128})) {
      const std::optional<ParameterChoice> best = choose_parameters(demand.request());
      if (!best) continue;
      demands_.push_back(demand);
      best_.push_back(*best);
      if (std::ranges::find(candidates_, best->key_sets[0].parameters) == candidates_.end())
        candidates_.push_back(best->key_sets[0].parameters);
    }
  }

  // log(time / best time) of every candidate for every demand. Keys of a class beyond the best
  // choice's do not count as served.
  void weigh() {
    for (std::size_t d = 0; d < demands_.size(); ++d) {
      const ParameterRequest request = demands_[d].request();
      std::vector<double>& row = loss_.emplace_back();
      for (const TfheParameters& candidate : candidates_) {
        const std::optional<ParameterChoice> choice = apply_parameters(candidate, request);
        const bool serves = choice && key_class(choice->key_bytes) <= key_class(best_[d].key_bytes);
        const double loss =
            serves ? std::log(choice->cost_ms_per_core / best_[d].cost_ms_per_core) : kUnserved;
        // The worst case counts as well as the mean, above all beyond a factor of 1.4.
        const double weighed = loss + 4 * loss * loss + 100 * std::max(0.0, loss - kLargeLoss);
        row.push_back((demands_[d].is_central() ? kCentralWeight : 1) * weighed);
      }
    }
  }

  double total(const std::vector<std::size_t>& chosen) const {
    double sum = 0;
    for (const std::vector<double>& row : loss_) {
      double least = row[chosen[0]];
      for (const std::size_t c : chosen) least = std::min(least, row[c]);
      sum += least;
    }
    return sum;
  }

  void add_best() {
    double least = HUGE_VAL;
    std::size_t best = 0;
    chosen_.push_back(0);
    for (std::size_t c = 0; c < candidates_.size(); ++c) {
      chosen_.back() = c;
      const double sum = total(chosen_);
      if (sum < least) std::tie(least, best) = std::tuple(sum, c);
    }
    chosen_.back() = best;
  }

  // Replaces one set where that helps.
  bool exchange() {
    const double before = total(chosen_);
    for (std::size_t i = 0; i < chosen_.size(); ++i) {
      std::vector<std::size_t> trial = chosen_;
      for (std::size_t c = 0; c < candidates_.size(); ++c) {
        trial[i] = c;
        if (total(trial) < before * (1 - 1e-9)) {
          chosen_ = trial;
          return true;
        }
      }
    }
    return false;
  }

  std::vector<Demand> demands_;
  std::vector<ParameterChoice> best_;  // by demand
  std::vector<TfheParameters> candidates_;
  std::vector<std::vector<double>> loss_;  // by demand, by candidate
  std::vector<std::size_t> chosen_;
};

}  // namespace torusml
