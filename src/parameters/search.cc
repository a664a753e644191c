#include "parameters/search.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <queue>
#include <tuple>

namespace torusml {
namespace {

// The search budgets noise with a different order of operations than the formulas; what it accepts
// shall pass them too.
constexpr double kSlack = 1 - 1e-9;
constexpr double kNever = -1;  // a budget that nothing meets
constexpr double kInfinity = std::numeric_limits<double>::infinity();

double square(double x) { return x * x; }

bool same_demand(const NoiseConstraint& a, const NoiseConstraint& b) {
  return a.is_lookup == b.is_lookup && a.fresh_norm2 == b.fresh_norm2 &&
         a.bootstrap_norm2 == b.bootstrap_norm2 && a.values == b.values &&
         a.limit_sigma == b.limit_sigma && a.table_step_weight == b.table_step_weight &&
         a.tables == b.tables && a.fixed_modulus == b.fixed_modulus &&
         a.extra_variance == b.extra_variance;
}

// Whoever meets `a`, a part of a wide lookup, meets `b`, another one, at the same cost: no part of
// b's budget is tighter, all in units of its limit.
bool implies_part(const NoiseConstraint& a, const NoiseConstraint& b) {
  if (a.fixed_modulus == 0 || b.fixed_modulus == 0) return false;
  const double of_a = square(a.limit_sigma), of_b = square(b.limit_sigma);
  return a.fixed_polynomial_size == b.fixed_polynomial_size && a.fixed_modulus <= b.fixed_modulus &&
         of_a <= of_b && a.fresh_norm2 / of_a >= b.fresh_norm2 / of_b &&
         a.bootstrap_norm2 / of_a >= b.bootstrap_norm2 / of_b &&
         a.extra_variance / of_a >= b.extra_variance / of_b;
}

// Whoever meets `a` meets the output `b`.
bool implies_output(const NoiseConstraint& a, const NoiseConstraint& b) {
  return !b.is_lookup && a.fresh_norm2 >= b.fresh_norm2 && a.bootstrap_norm2 >= b.bootstrap_norm2 &&
         a.extra_variance >= b.extra_variance && a.limit_sigma <= b.limit_sigma;
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
    // Lookups that nobody counts are served well all the same.
    if (total_count == 0) {
      std::ranges::fill(counts, 1.0);
      total_count = std::max(1.0, static_cast<double>(counts.size()));
    }
  }

 private:
  void add_lookup(const NoiseConstraint& c) {
    double count = static_cast<double>(c.lookup_count);
    total_count += count;
    for (std::size_t i = 0; i < lookups.size(); ++i) {
      if (same_demand(lookups[i], c) || implies_part(lookups[i], c)) {
        counts[i] += count;
        return;
      }
    }
    for (std::size_t i = lookups.size(); i-- > 0;) {
      if (!implies_part(c, lookups[i])) continue;
      count += counts[i];
      lookups.erase(lookups.begin() + static_cast<std::ptrdiff_t>(i));
      counts.erase(counts.begin() + static_cast<std::ptrdiff_t>(i));
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

struct KeyswitchOption {
  Gadget gadget;
  SearchModel::Line variance;  // in the big dimension
};

// A ring and a bootstrap gadget.
struct Engine {
  TfheParameters parameters;   // without small key
  double bootstrap_slope = 0;  // V_bootstrap = n * bootstrap_slope
  double rotation_cost = 0;    // of one shard, for each unit of n
};

// At small dimension n, a lookup in its s-th rotation shape bears keyswitch noise up to head[s] - n
// * slope[s], and takes the time of shards[s] shards in all its rotations.
struct LookupBudget {
  std::vector<double> head, slope, shards;  // by rotation shape
  double count = 0;
};

// What one request asks of one engine.
struct EngineBudget {
  const Engine* engine = nullptr;
  std::vector<LookupBudget> lookups;
  double max_small_dimension = kInfinity;
  double linear_cost = 0;
};

// Small dimensions `first` to `last` of one engine, and a lower bound on what they cost: the exact
// cost where there is one of them.
struct Branch {
  double cost = kInfinity;
  std::size_t number = 0;  // settles ties, so that the result does not depend on the queue
  std::size_t engine = 0;
  std::uint32_t first = 0, last = 0;
  Gadget keyswitch;

  bool operator>(const Branch& other) const {
    return std::tie(cost, number) > std::tie(other.cost, other.number);
  }
};

}  // namespace

struct Search::Tables {
  std::vector<Engine> engines;
};

namespace {

// With more levels the best base falls, and with one number of levels noise is convex in the base:
// rounding shrinks and the key's part grows. So each scan starts low and stops at the first rise.
std::vector<KeyswitchOption> keyswitch_options(const SearchModel& model, std::uint32_t n) {
  const SearchModel::Domain& domain = model.domain();
  std::vector<KeyswitchOption> options;
  double least = kInfinity;
  TfheParameters p;
  p.small_dimension = {n};
  p.small_variance = model.small_variance(n);
  for (std::uint32_t levels = 1; levels <= domain.max_keyswitch_levels; ++levels) {
    KeyswitchOption best{{}, {0, kInfinity}};
    for (std::uint32_t base = 1; base * levels <= domain.max_keyswitch_bits; ++base) {
      p.keyswitch = {base, levels};
      const SearchModel::Line variance = model.keyswitch_variance(p);
      if (variance.slope >= best.variance.slope) break;
      best = {p.keyswitch, variance};
    }
    if (best.variance.slope >= least) continue;  // more levels for no less noise
    least = best.variance.slope;
    options.push_back(best);
  }
  return options;
}

// The least noise for each number of levels, while more levels help.
void add_engines(const SearchModel& model, TfheParameters ring, std::vector<Engine>& engines) {
  const SearchModel::Domain& domain = model.domain();
  double least = kInfinity;
  for (std::uint32_t levels = 1; levels <= domain.max_bootstrap_levels; ++levels) {
    Engine best{ring, kInfinity, 0};
    const std::uint32_t bits = model.max_bootstrap_bits(ring);
    for (std::uint32_t base = 1; base <= domain.max_digit_bits && base * levels <= bits; ++base) {
      ring.bootstrap = {base, levels};
      const double slope = model.rotation_variance(ring);
      if (slope < best.bootstrap_slope) best = {ring, slope, model.rotation_cost(ring)};
    }
    if (best.bootstrap_slope >= least) continue;
    least = best.bootstrap_slope;
    engines.push_back(best);
  }
}

// One request over all engines.
class Run {
 public:
  Run(const SearchModel& model, const std::vector<Engine>& engines, const SearchRequest& request)
      : model_(model),
        request_(request),
        demands_(request.constraints),
        keyswitches_(model.domain().max_small_dimension + 1) {
    for (const Engine& engine : engines) {
      const std::uint32_t dimension = engine.parameters.big_dimension().value;
      if (request.big_dimension == 0 || request.big_dimension == dimension) add_budget(engine);
    }
  }

  std::optional<SearchResult> find(const KeyBytes& limit) {
    queue_ = {};
    number_ = 0;
    const SearchModel::Domain& domain = model_.domain();
    for (std::size_t e = 0; e < budgets_.size(); ++e)
      push(e, domain.min_small_dimension, domain.max_small_dimension, limit);
    while (!queue_.empty()) {
      const Branch branch = queue_.top();
      queue_.pop();
      if (branch.first == branch.last) return result(branch);
      const std::uint32_t middle = branch.first + (branch.last - branch.first) / 2;
      push(branch.engine, branch.first, middle, limit);
      push(branch.engine, middle + 1, branch.last, limit);
    }
    return std::nullopt;
  }

 private:
  void add_budget(const Engine& engine) {
    EngineBudget budget;
    budget.engine = &engine;
    budget.max_small_dimension = model_.max_small_dimension(engine.parameters);
    const double fresh = engine.parameters.glwe_variance.value;
    for (const NoiseConstraint& output : demands_.outputs) {
      const double room =
          square(output.limit_sigma) * kSlack - output.fresh_norm2 * fresh - output.extra_variance;
      if (room < 0) return;
      if (output.bootstrap_norm2 > 0) {
        budget.max_small_dimension = std::min(
            budget.max_small_dimension, room / (output.bootstrap_norm2 * engine.bootstrap_slope));
      }
    }
    for (std::size_t c = 0; c < demands_.lookups.size(); ++c) {
      budget.lookups.push_back(make_budget(engine, demands_.lookups[c]));
      budget.lookups.back().count = demands_.counts[c];
    }
    budget.linear_cost = model_.linear_cost(engine.parameters, request_.linear_multiplications);
    budgets_.push_back(std::move(budget));
  }

  // A part of a wide lookup: one shard, or none in other rings.
  LookupBudget make_fixed_budget(const Engine& engine, const NoiseConstraint& lookup) const {
    const TfheParameters& p = engine.parameters;
    const bool is_possible = p.polynomial_size.value == lookup.fixed_polynomial_size &&
                             p.glwe_dimension.value == 1 && p.accumulator_bits == 64;
    const SearchModel::Line switched = model_.switch_variance(lookup.fixed_modulus);
    const double head = square(lookup.limit_sigma) * kSlack - lookup.extra_variance -
                        lookup.fresh_norm2 * p.glwe_variance.value - switched.intercept;
    return {{is_possible ? head : kNever},
            {lookup.bootstrap_norm2 * engine.bootstrap_slope + switched.slope},
            {model_.expected_shards(p.grouping_factor, 0)}};
  }

  LookupBudget make_budget(const Engine& engine, const NoiseConstraint& lookup) const {
    if (lookup.fixed_modulus != 0) return make_fixed_budget(engine, lookup);
    LookupBudget budget;
    const TfheParameters& p = engine.parameters;
    const double fresh = lookup.fresh_norm2 * p.glwe_variance.value + lookup.extra_variance;
    for (const RotationShape& shape : rotation_shapes(lookup.tables, request_.max_extension_log2)) {
      const std::uint64_t size = shape.table_size(p.polynomial_size);
      if (size / 2 < lookup.values) continue;
      const double limit =
          lookup.limit_sigma - lookup.table_step_weight / (4 * static_cast<double>(size));
      const SearchModel::Line switched = model_.switch_variance(2 * size);
      const bool is_possible = size <= model_.domain().max_table_size && limit > 0;
      budget.head.push_back(is_possible ? square(limit) * kSlack - fresh - switched.intercept
                                        : kNever);
      budget.slope.push_back(lookup.bootstrap_norm2 * engine.bootstrap_slope + switched.slope);
      budget.shards.push_back(static_cast<double>(shape.turns(lookup.tables)) *
                              model_.expected_shards(p.grouping_factor, shape.extension_log2));
    }
    return budget;
  }

  void push(std::size_t engine, std::uint32_t first, std::uint32_t last, const KeyBytes& limit) {
    const EngineBudget& budget = budgets_[engine];
    const std::uint32_t g = budget.engine->parameters.grouping_factor;
    first = (first + g - 1) / g * g;
    last = static_cast<std::uint32_t>(std::min<double>(last, budget.max_small_dimension)) / g * g;
    if (first > last) return;
    Branch branch = bound(budget, first, last, limit);
    if (std::isinf(branch.cost)) return;
    branch.engine = engine;
    branch.number = number_++;
    queue_.push(branch);
  }

  // All at the end of the interval where it is cheapest: the budget and the rotation's cost at
  // `first`, the keyswitch's noise at `last`, the keyswitch's cost and the keys' bytes, concave in
  // n, at either. At one small dimension this is the cost itself.
  Branch bound(const EngineBudget& budget, std::uint32_t first, std::uint32_t last,
               const KeyBytes& limit) {
    TfheParameters p = budget.engine->parameters, q = p;
    p.small_dimension = {first};
    q.small_dimension = {last};
    Branch best{.first = first, .last = last};
    const double per_shard = first * budget.engine->rotation_cost;
    for (const KeyswitchOption& option : keyswitches(last)) {
      p.keyswitch = q.keyswitch = option.gadget;
      const double keyswitch = std::min(model_.keyswitch_cost(p), model_.keyswitch_cost(q));
      const double fixed = demands_.total_count * keyswitch + budget.linear_cost;
      const KeyBytes at_first = model_.key_bytes(p), at_last = model_.key_bytes(q);
      const KeyBytes bytes{std::min(at_first.memory, at_last.memory),
                           std::min(at_first.wire, at_last.wire)};
      // Both grow with levels.
      if (bytes.memory > limit.memory || bytes.wire > limit.wire || fixed >= best.cost) break;
      const double noise =
          option.variance.intercept + option.variance.slope * p.big_dimension().value;
      const double cost = per_shard * shards(budget, first, noise) + fixed;
      if (cost < best.cost) {
        best.cost = cost;
        best.keyswitch = option.gadget;
      }
    }
    return best;
  }

  // Few small dimensions are ever looked at.
  const std::vector<KeyswitchOption>& keyswitches(std::uint32_t n) {
    if (keyswitches_[n].empty()) keyswitches_[n] = keyswitch_options(model_, n);
    return keyswitches_[n];
  }

  // Sum over lookups of count times the shards of the first shape that bears this keyswitch.
  double shards(const EngineBudget& budget, std::uint32_t n, double keyswitch) const {
    double total = 0;
    for (const LookupBudget& lookup : budget.lookups) {
      std::size_t s = 0;
      while (s < lookup.head.size() && lookup.head[s] - n * lookup.slope[s] < keyswitch) ++s;
      if (s == lookup.head.size()) return kInfinity;
      total += lookup.count * lookup.shards[s];
    }
    return total;
  }

  SearchResult result(const Branch& branch) const {
    SearchResult found{budgets_[branch.engine].engine->parameters, branch.cost};
    found.parameters.small_dimension = {branch.first};
    found.parameters.small_variance = model_.small_variance(branch.first);
    found.parameters.keyswitch = branch.keyswitch;
    return found;
  }

  const SearchModel& model_;
  const SearchRequest& request_;
  Demands demands_;
  std::vector<std::vector<KeyswitchOption>> keyswitches_;  // by n, by rising levels
  std::vector<EngineBudget> budgets_;
  std::priority_queue<Branch, std::vector<Branch>, std::greater<>> queue_;
  std::size_t number_ = 0;
};

}  // namespace

std::vector<RotationShape> rotation_shapes(std::uint64_t tables, std::uint32_t max_extension_log2) {
  std::vector<RotationShape> shapes;
  for (auto v = static_cast<std::uint32_t>(std::bit_width(tables - 1)); v > 0; --v)
    shapes.push_back({0, v});
  for (std::uint32_t h = 0; h <= max_extension_log2; ++h) shapes.push_back({h, 0});
  return shapes;
}

Search::Search(std::unique_ptr<const SearchModel> model) : model_(std::move(model)) {
  Tables tables;
  for (const TfheParameters& ring : model_->domain().rings)
    add_engines(*model_, ring, tables.engines);
  tables_ = std::make_unique<const Tables>(std::move(tables));
}

Search::~Search() = default;

std::vector<std::optional<SearchResult>> Search::run(const SearchRequest& request,
                                                     const std::vector<KeyBytes>& limits) const {
  Run run(*model_, tables_->engines, request);
  std::vector<std::optional<SearchResult>> results;
  for (const KeyBytes& limit : limits) results.push_back(run.find(limit));
  return results;
}

std::optional<SearchResult> Search::run(const SearchRequest& request) const {
  return run(request, {kAnyKeyBytes}).front();
}

}  // namespace torusml
