#include "parameters/optimizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "parameters/cost.h"
#include "parameters/noise.h"
#include "torusml/error.h"

namespace torusml {
namespace {

constexpr std::uint32_t kMaxGlweDimension = 6;
constexpr std::uint32_t kMinPolynomialSize = 256, kMaxPolynomialSize = 4096;
constexpr std::uint32_t kMaxBigDimension = 4096;
constexpr std::uint32_t kMinSmallDimension = kLeastSecureDimension, kMaxSmallDimension = 1300;
constexpr std::uint32_t kMaxBootstrapLevels = 6, kMaxKeyswitchLevels = 16;
// Digits are kept in 32-bit words; the keyswitch key's torus has 32 bits, the bootstrap key's 64.
constexpr std::uint32_t kMaxDigitBits = 31, kMaxKeyswitchBits = 31, kMaxBootstrapBits = 63;
constexpr std::uint32_t kMaxExtension = 10;

// Weight of a byte of evaluation key: 100 MB count as a tenth of a millisecond, so that keys decide
// between sets of about the same speed and nothing else.
constexpr double kKeyByteMs = 1e-9;
// The search budgets noise with a different order of operations than the formulas; what it accepts
// shall pass them too.
constexpr double kSlack = 1 - 1e-9;
constexpr double kNever = -1;  // a budget that nothing meets

double square(double x) { return x * x; }

std::uint64_t table_size(std::uint32_t polynomial_size, std::uint32_t extension) {
  return std::uint64_t{polynomial_size} << extension;
}

bool same_demand(const NoiseConstraint& a, const NoiseConstraint& b) {
  return a.is_lookup == b.is_lookup && a.fresh_norm2 == b.fresh_norm2 &&
         a.bootstrap_norm2 == b.bootstrap_norm2 && a.values == b.values &&
         a.limit_sigma == b.limit_sigma && a.table_step_weight == b.table_step_weight;
}

// Whoever meets `a` meets the output `b`.
bool implies_output(const NoiseConstraint& a, const NoiseConstraint& b) {
  return !b.is_lookup && a.fresh_norm2 >= b.fresh_norm2 && a.bootstrap_norm2 >= b.bootstrap_norm2 &&
         a.limit_sigma <= b.limit_sigma;
}

// A request without names: lookups that ask the same are merged, outputs that follow from others
// are dropped. A lookup that follows from another stays, since it costs time by its own table's
// size.
struct Demands {
  std::vector<NoiseConstraint> lookups, outputs;
  std::vector<double> counts;  // by lookup
  double total_count = 0;

  explicit Demands(const std::vector<NoiseConstraint>& constraints) {
    for (const NoiseConstraint& c : constraints) {
      if (c.is_lookup) add_lookup(c);
    }
    for (const NoiseConstraint& c : constraints) {
      if (!c.is_lookup) add_output(c);
    }
  }

 private:
  void add_lookup(const NoiseConstraint& c) {
    const double count = static_cast<double>(c.lookup_count);
    total_count += count;
    for (std::size_t i = 0; i < lookups.size(); ++i) {
      if (same_demand(lookups[i], c)) {
        counts[i] += count;
        return;
      }
    }
    lookups.push_back(c);
    counts.push_back(count);
  }

  void add_output(const NoiseConstraint& c) {
    const auto implies = [&](const NoiseConstraint& a) { return implies_output(a, c); };
    if (std::ranges::any_of(lookups, implies) || std::ranges::any_of(outputs, implies)) return;
    std::erase_if(outputs, [&](const NoiseConstraint& b) { return implies_output(c, b); });
    outputs.push_back(c);
  }
};

// A keyswitch gadget and its noise for one coefficient of the big key.
struct KeyswitchOption {
  Gadget gadget;
  double variance = 0;
};

// A ring and a bootstrap gadget.
struct Engine {
  TfheParameters parameters;   // without small key
  double bootstrap_slope = 0;  // V_bootstrap = small_dimension * bootstrap_slope
  double product_ms = 0;
};

struct Found {
  TfheParameters parameters;
  double objective = std::numeric_limits<double>::infinity();
};

// What one request asks of one engine. At small dimension n, lookup c with tables of N * 2^h
// entries bears keyswitch noise up to head[h] - n * slope[h].
struct LookupBudget {
  std::vector<double> head, slope;  // by h
  std::uint32_t least_extension = 0;
  double count = 0;
};

struct EngineBudget {
  const Engine* engine = nullptr;
  std::vector<LookupBudget> lookups;
  double output_limit = std::numeric_limits<double>::infinity();  // on small_dimension
  double least_ms = 0;  // of all lookups, for each unit of small dimension: a lower bound
};

class Search {
 public:
  Search(int security_bits, std::uint32_t max_extension)
      : security_bits_(security_bits), max_extension_(max_extension) {
    tabulate_keyswitches();
    list_engines();
  }

  std::optional<TfheParameters> run(const std::vector<NoiseConstraint>& constraints) const {
    const Demands demands(constraints);
    std::vector<EngineBudget> budgets;
    for (const Engine& engine : engines_) {
      std::optional<EngineBudget> budget = make_budget(engine, demands);
      if (budget) budgets.push_back(*std::move(budget));
    }
    // Cheap engines first, so that the bound cuts the others early.
    std::ranges::stable_sort(budgets, {}, &EngineBudget::least_ms);
    Found best;
    for (const EngineBudget& budget : budgets) scan(budget, demands.total_count, best);
    if (std::isinf(best.objective)) return std::nullopt;
    return best.parameters;
  }

 private:
  void tabulate_keyswitches() {
    keyswitches_.resize(kMaxSmallDimension - kMinSmallDimension + 1);
    TfheParameters one_coefficient{.glwe_dimension = {1}, .polynomial_size = {1}};
    for (std::uint32_t n = kMinSmallDimension; n <= kMaxSmallDimension; ++n) {
      one_coefficient.small_variance = minimal_variance(n, security_bits_);
      double least = std::numeric_limits<double>::infinity();
      for (std::uint32_t levels = 1; levels <= kMaxKeyswitchLevels; ++levels) {
        KeyswitchOption best{{}, least};
        for (std::uint32_t base = 1; base * levels <= kMaxKeyswitchBits; ++base) {
          one_coefficient.keyswitch = {base, levels};
          const double variance = keyswitch_variance(one_coefficient).value;
          if (variance < best.variance) best = {one_coefficient.keyswitch, variance};
        }
        if (best.variance == least) continue;  // more levels for no less noise
        least = best.variance;
        keyswitches_[n - kMinSmallDimension].push_back(best);
      }
    }
  }

  const std::vector<KeyswitchOption>& keyswitches(std::uint32_t n) const {
    return keyswitches_[n - kMinSmallDimension];
  }

  void list_engines() {
    for (std::uint32_t size = kMinPolynomialSize; size <= kMaxPolynomialSize; size *= 2) {
      for (std::uint32_t k = 1; k <= kMaxGlweDimension; ++k) {
        const std::uint32_t dimension = k * size;
        if (dimension < kLeastSecureDimension || dimension > kMaxBigDimension) continue;
        list_gadgets({.glwe_dimension = {k},
                      .polynomial_size = {size},
                      .glwe_variance = minimal_variance(dimension, security_bits_)});
      }
    }
  }

  void list_gadgets(TfheParameters ring) {
    double least = std::numeric_limits<double>::infinity();
    for (std::uint32_t levels = 1; levels <= kMaxBootstrapLevels; ++levels) {
      Engine best{ring, least, 0};
      for (std::uint32_t base = 1; base <= kMaxDigitBits && base * levels <= kMaxBootstrapBits;
           ++base) {
        ring.bootstrap = {base, levels};
        const double slope = external_product_variance(ring).value;
        if (slope < best.bootstrap_slope) best = {ring, slope, external_product_ms(ring)};
      }
      if (best.bootstrap_slope == least) continue;
      least = best.bootstrap_slope;
      engines_.push_back(best);
    }
  }

  std::optional<EngineBudget> make_budget(const Engine& engine, const Demands& demands) const {
    EngineBudget budget;
    budget.engine = &engine;
    const double fresh = engine.parameters.glwe_variance.value;
    for (const NoiseConstraint& output : demands.outputs) {
      const double room = square(output.limit_sigma) * kSlack - output.fresh_norm2 * fresh;
      if (room < 0) return std::nullopt;
      if (output.bootstrap_norm2 > 0) {
        budget.output_limit =
            std::min(budget.output_limit, room / (output.bootstrap_norm2 * engine.bootstrap_slope));
      }
    }
    for (std::size_t c = 0; c < demands.lookups.size(); ++c) {
      LookupBudget lookup = make_budget(engine, demands.lookups[c]);
      if (lookup.least_extension > max_extension_) return std::nullopt;
      lookup.count = demands.counts[c];
      budget.least_ms +=
          std::ldexp(lookup.count, static_cast<int>(lookup.least_extension)) * engine.product_ms;
      budget.lookups.push_back(std::move(lookup));
    }
    return budget;
  }

  LookupBudget make_budget(const Engine& engine, const NoiseConstraint& lookup) const {
    LookupBudget budget;
    const double fresh = lookup.fresh_norm2 * engine.parameters.glwe_variance.value;
    budget.least_extension = max_extension_ + 1;
    for (std::uint32_t h = 0; h <= max_extension_; ++h) {
      const std::uint64_t size = table_size(engine.parameters.polynomial_size.value, h);
      const double limit =
          lookup.limit_sigma - lookup.table_step_weight / (4 * static_cast<double>(size));
      const double body = modulus_switch_variance({0}, 2 * size).value;
      const bool is_possible = size / 2 >= lookup.values && limit > 0;
      budget.head.push_back(is_possible ? square(limit) * kSlack - fresh - body : kNever);
      budget.slope.push_back(lookup.bootstrap_norm2 * engine.bootstrap_slope +
                             modulus_switch_mask_variance({1}, 2 * size).value);
      if (budget.least_extension > max_extension_ &&
          budget.head[h] > kMinSmallDimension * budget.slope[h])
        budget.least_extension = h;
    }
    return budget;
  }

  // All small dimensions and keyswitches of one engine; improves `best`.
  void scan(const EngineBudget& budget, double total_count, Found& best) const {
    TfheParameters p = budget.engine->parameters;
    for (std::uint32_t n = kMinSmallDimension; n <= kMaxSmallDimension; ++n) {
      if (n > budget.output_limit) break;
      p.small_dimension = {n};
      for (const KeyswitchOption& option : keyswitches(n)) {
        p.keyswitch = option.gadget;
        const double fixed_ms =
            total_count * keyswitch_ms(p) + kKeyByteMs * evaluation_key_bytes(p);
        // Both grow with levels, so nothing further down this list can win either; and where the
        // first option is too dear, so is every larger n.
        if (n * budget.least_ms + fixed_ms >= best.objective) {
          if (&option == &keyswitches(n).front()) return;
          break;
        }
        const double variance = p.big_dimension().value * option.variance;
        const double products = external_products(budget, n, variance);
        const double objective = n * budget.engine->product_ms * products + fixed_ms;
        if (products >= 0 && objective < best.objective) {
          best = {p, objective};
          best.parameters.small_variance = minimal_variance(n, security_bits_);
        }
      }
    }
  }

  // Sum over lookups of count * 2^h with the least h that bears this keyswitch; -1 if one bears
  // none.
  double external_products(const EngineBudget& budget, std::uint32_t n, double keyswitch) const {
    double total = 0;
    for (const LookupBudget& lookup : budget.lookups) {
      std::uint32_t h = lookup.least_extension;
      while (h <= max_extension_ && lookup.head[h] - n * lookup.slope[h] < keyswitch) ++h;
      if (h > max_extension_) return -1;
      total += std::ldexp(lookup.count, static_cast<int>(h));
    }
    return total;
  }

  int security_bits_;
  std::uint32_t max_extension_;
  std::vector<std::vector<KeyswitchOption>> keyswitches_;  // by n
  std::vector<Engine> engines_;
};

// Circuits without a lookup: the smallest big key whose fresh noise every output bears; k = 1
// first.
std::optional<TfheParameters> choose_without_bootstrap(
    const std::vector<NoiseConstraint>& constraints, int security_bits) {
  std::optional<TfheParameters> best;
  for (std::uint32_t k = 1; k <= kMaxGlweDimension; ++k) {
    for (std::uint32_t size = kMinPolynomialSize; size <= kMaxPolynomialSize; size *= 2) {
      const std::uint32_t dimension = k * size;
      if (dimension < kLeastSecureDimension || dimension > kMaxBigDimension) continue;
      if (best && best->big_dimension().value <= dimension) continue;
      const Variance fresh = minimal_variance(dimension, security_bits);
      const bool suits = std::ranges::all_of(constraints, [&](const NoiseConstraint& c) {
        return c.fresh_norm2 * fresh.value <= square(c.limit_sigma);
      });
      if (suits) best = {.glwe_dimension = {k}, .polynomial_size = {size}, .glwe_variance = fresh};
    }
  }
  return best;
}

bool needs_bootstrap(const std::vector<NoiseConstraint>& constraints) {
  return std::ranges::any_of(
      constraints, [](const NoiseConstraint& c) { return c.is_lookup || c.bootstrap_norm2 > 0; });
}

Variance noise_at(const NoiseConstraint& c, const ParameterChoice& choice, std::uint32_t h) {
  double total = c.fresh_norm2 * choice.fresh.value + c.bootstrap_norm2 * choice.bootstrap.value;
  if (c.is_lookup) {
    const TfheParameters& p = choice.parameters;
    const std::uint64_t modulus = 2 * table_size(p.polynomial_size.value, h);
    total += choice.keyswitch.value + modulus_switch_variance(p.small_dimension, modulus).value;
  }
  return {total};
}

bool is_met(const NoiseConstraint& c, const ParameterChoice& choice, std::uint32_t h) {
  double limit = c.limit_sigma;
  if (c.is_lookup) {
    const std::uint64_t size = table_size(choice.parameters.polynomial_size.value, h);
    if (size / 2 < c.values) return false;
    limit -= c.table_step_weight / (4 * static_cast<double>(size));
  }
  return limit >= 0 && noise_at(c, choice, h).value <= square(limit);
}

ParameterChoice complete(const TfheParameters& p, const ParameterRequest& request) {
  ParameterChoice choice;
  choice.parameters = p;
  choice.fresh = p.glwe_variance;
  if (p.has_bootstrap()) {
    choice.bootstrap = blind_rotation_variance(p);
    choice.keyswitch = keyswitch_variance(p);
  }
  for (const NoiseConstraint& c : request.constraints) {
    std::uint32_t h = 0;
    while (c.is_lookup && h < request.max_extension_log2 && !is_met(c, choice, h)) ++h;
    if (!is_met(c, choice, h)) {
      throw Error(ErrorCode::internal, "the parameter search broke a noise limit",
                  fmt::format("'{}'", c.name));
    }
    choice.extension_log2.push_back(h);
    choice.noise.push_back(noise_at(c, choice, h));
    if (c.is_lookup)
      choice.cost_ms_per_core += static_cast<double>(c.lookup_count) * lookup_ms(p, h);
  }
  return choice;
}

[[noreturn]] void refuse(const NoiseConstraint& c, const std::string& what) {
  throw Error(ErrorCode::invalid_argument, what, fmt::format("'{}'", c.name));
}

void check(const ParameterRequest& request) {
  if (request.constraints.empty())
    throw Error(ErrorCode::invalid_argument, "a parameter request without noise constraints");
  if (request.max_extension_log2 > kMaxExtension) {
    throw Error(ErrorCode::invalid_argument,
                fmt::format("max_extension_log2 is {}; at most {}", request.max_extension_log2,
                            kMaxExtension));
  }
  minimal_variance(kMinSmallDimension, request.security_bits);  // knows the supported levels
  const auto is_amount = [](double x) { return std::isfinite(x) && x >= 0; };
  for (const NoiseConstraint& c : request.constraints) {
    if (!is_amount(c.fresh_norm2))
      refuse(c, fmt::format("fresh_norm2 is {}; it must be finite, not negative", c.fresh_norm2));
    if (!is_amount(c.bootstrap_norm2))
      refuse(c, fmt::format("bootstrap_norm2 is {}; it must be finite, not negative",
                            c.bootstrap_norm2));
    if (!is_amount(c.limit_sigma) || c.limit_sigma == 0)
      refuse(c, fmt::format("limit_sigma is {}; it must be finite and positive", c.limit_sigma));
    if (!is_amount(c.table_step_weight))
      refuse(c, fmt::format("table_step_weight is {}; it must be finite, not negative",
                            c.table_step_weight));
    if (c.is_lookup && c.values == 0) refuse(c, "values is 0; an interval has at least one");
  }
}

// The first constraint that no set meets alone, or all of them.
std::string name_tightest(const std::vector<NoiseConstraint>& constraints,
                          const auto& has_solution) {
  for (const NoiseConstraint& c : constraints) {
    if (!has_solution({c})) return c.name;
  }
  return "all constraints together";
}

}  // namespace

std::optional<ParameterChoice> choose_parameters(const ParameterRequest& request,
                                                 std::string* tightest) {
  check(request);
  std::optional<Search> search;
  const auto solve = [&](const std::vector<NoiseConstraint>& constraints) {
    if (!needs_bootstrap(constraints))
      return choose_without_bootstrap(constraints, request.security_bits);
    if (!search) search.emplace(request.security_bits, request.max_extension_log2);
    return search->run(constraints);
  };
  if (const std::optional<TfheParameters> found = solve(request.constraints))
    return complete(*found, request);
  if (tightest != nullptr) {
    *tightest = name_tightest(request.constraints, [&](const std::vector<NoiseConstraint>& alone) {
      return solve(alone).has_value();
    });
  }
  return std::nullopt;
}

}  // namespace torusml
