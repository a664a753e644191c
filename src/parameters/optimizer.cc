#include "parameters/optimizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>

#include "parameters/cost.h"
#include "parameters/noise.h"
#include "parameters/wide_lookups.h"
#include "torusml/error.h"

namespace torusml {
namespace {

double square(double x) { return x * x; }

// The smallest big key whose fresh noise every output bears; of equal dimensions the least k.
std::optional<TfheParameters> choose_without_bootstrap(
    const std::vector<NoiseConstraint>& constraints, int security_bits) {
  const auto rank = [](const TfheParameters& p) {
    return std::pair(p.big_dimension(), p.glwe_dimension);
  };
  std::optional<TfheParameters> best;
  for (const TfheParameters& ring : secure_rings(security_bits)) {
    const bool suits = std::ranges::all_of(constraints, [&](const NoiseConstraint& c) {
      return c.fresh_norm2 * ring.glwe_variance.value <= square(c.limit_sigma);
    });
    if (suits && (!best || rank(ring) < rank(*best))) best = ring;
  }
  return best;
}

bool needs_bootstrap(const std::vector<NoiseConstraint>& constraints) {
  return std::ranges::any_of(
      constraints, [](const NoiseConstraint& c) { return c.is_lookup || c.bootstrap_norm2 > 0; });
}

double bootstrap_variance(const NoiseConstraint& c, const ParameterChoice& choice) {
  double most = 0;
  for (const KeySet& set : choice.key_sets) most = std::max(most, set.bootstrap.value);
  if (choice.key_sets.size() == 1 || c.sources.empty()) return c.bootstrap_norm2 * most;
  double sum = 0;
  for (const SourceNorm& source : c.sources)
    sum += source.norm2 * choice.key_set_of(source.constraint).bootstrap.value;
  return std::min(sum, c.bootstrap_norm2 * most);
}

double operand_variance(const NoiseConstraint& c, const ParameterChoice& choice) {
  return c.fresh_norm2 * choice.fresh.value + bootstrap_variance(c, choice) + c.extra_variance;
}

// `operand`: the variance of what is read; `set`: the lookup's.
Variance noise_at(const NoiseConstraint& c, const KeySet& set, double operand,
                  const RotationShape& shape) {
  if (!c.is_lookup) return {operand};
  const TfheParameters& p = set.parameters;
  const std::uint64_t modulus = 2 * shape.table_size(p.polynomial_size);
  return {operand + set.keyswitch.value +
          modulus_switch_variance(p.small_dimension, modulus).value};
}

bool is_met(const NoiseConstraint& c, const KeySet& set, double operand,
            const RotationShape& shape) {
  double limit = c.limit_sigma;
  if (c.is_lookup) {
    const std::uint64_t size = shape.table_size(set.parameters.polynomial_size);
    if (size / 2 < c.values || size > kMaxTableSize) return false;
    limit -= c.table_step_weight / (4 * static_cast<double>(size));
  }
  return limit >= 0 && noise_at(c, set, operand, shape).value <= square(limit);
}

// Not the caller's limits but each class within them, less what other keys take.
std::vector<KeyBytes> key_limits(const ParameterRequest& request, const KeyBytes& held = {}) {
  const auto within = [](double bytes, double limit) {
    return limit == 0 ? bytes : std::min(bytes, limit);
  };
  std::vector<KeyBytes> limits;
  for (const KeyBytes& c : kKeyClasses) {
    limits.push_back({within(c.memory, request.max_memory_bytes) - held.memory,
                      within(c.wire, request.max_wire_bytes) - held.wire});
  }
  return limits;
}

// The index of the best choice of each class in turn, taken where it is worth its keys.
std::optional<std::size_t> worthwhile(const std::vector<std::optional<double>>& cost_by_class) {
  std::optional<std::size_t> best;
  for (std::size_t i = 0; i < cost_by_class.size(); ++i) {
    if (!cost_by_class[i]) continue;
    if (!best || *cost_by_class[i] <= kWorthLargerKeys * *cost_by_class[*best]) best = i;
  }
  return best;
}

ParameterChoice describe(const std::vector<TfheParameters>& sets,
                         const std::vector<std::size_t>& set_of, const ParameterRequest& request) {
  ParameterChoice choice;
  for (const TfheParameters& p : sets) {
    choice.key_sets.push_back(make_key_set(p));
    const KeyBytes bytes = key_bytes(p);
    choice.key_bytes.memory += bytes.memory;
    choice.key_bytes.wire += bytes.wire;
  }
  choice.set_of = set_of;
  choice.fresh = sets.front().glwe_variance;
  choice.cost_ms_per_core =
      linear_ms(sets.front(), request.linear_multiplications, request.cost_table);
  return choice;
}

[[noreturn]] void refuse(const NoiseConstraint& c, const std::string& what) {
  throw Error(ErrorCode::invalid_argument, what, fmt::format("'{}'", c.name));
}

void check(const CostTable& table) {
  const auto is_time = [](double ns) { return std::isfinite(ns) && ns > 0; };
  bool is_sound =
      is_time(table.keyswitch_ns) && is_time(table.linear_ns) && is_time(table.narrow_accumulator);
  for (const PolynomialCost& cost : table.polynomials)
    is_sound = is_sound && is_time(cost.transform_ns) && is_time(cost.multiply_ns);
  if (is_sound) return;
  throw Error(ErrorCode::invalid_argument, "a cost table has an entry that is not positive", "",
              "measure it again, or use the shipped table");
}

void check(const NoiseConstraint& c) {
  const auto is_amount = [](double x) { return std::isfinite(x) && x >= 0; };
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
  if (c.index_bits > kMostIndexBits || (c.index_bits != 0 && c.result_bits > kMostResultBits)) {
    refuse(c, fmt::format("{} index bits and {} result bits; at most {} and {} are possible",
                          c.index_bits, c.result_bits, kMostIndexBits, kMostResultBits));
  }
  if (c.is_lookup && c.values == 0) refuse(c, "values is 0; an interval has at least one");
  if (c.is_lookup && (c.tables == 0 || c.tables > kMostTables))
    refuse(c, fmt::format("{} tables of a value; 1 to {} are possible", c.tables, kMostTables));
}

void check(const ParameterRequest& request) {
  if (request.constraints.empty())
    throw Error(ErrorCode::invalid_argument, "a parameter request without noise constraints");
  if (request.max_extension_log2 > kMaxExtensionLog2) {
    throw Error(ErrorCode::invalid_argument,
                fmt::format("max_extension_log2 is {}; at most {}", request.max_extension_log2,
                            kMaxExtensionLog2));
  }
  minimal_variance(kLeastSecureDimension, request.security_bits);  // knows the supported levels
  for (const double amount :
       {request.linear_multiplications, request.max_memory_bytes, request.max_wire_bytes}) {
    if (std::isfinite(amount) && amount >= 0) continue;
    throw Error(ErrorCode::invalid_argument,
                fmt::format("{} multiplications or bytes; a finite number, not negative, is meant",
                            amount));
  }
  check(request.cost_table);
  for (const NoiseConstraint& c : request.constraints) check(c);
}

// The first constraint that no set meets alone, or all of them.
std::string name_tightest(const std::vector<NoiseConstraint>& constraints,
                          const auto& has_solution) {
  for (const NoiseConstraint& c : constraints) {
    if (!has_solution({c})) return c.name;
  }
  return "all constraints together";
}

// How one lookup or output is served.
struct Service {
  RotationShape rotation;
  WideShape wide;
  Variance noise;
  double ms = 0;  // of one value with all its tables
};

std::optional<Service> serve_plainly(const NoiseConstraint& c, const KeySet& set, double operand,
                                     const ParameterRequest& request) {
  if (!c.is_lookup) {
    if (!is_met(c, set, operand, {})) return std::nullopt;
    return Service{.noise = noise_at(c, set, operand, {})};
  }
  for (const RotationShape& shape : rotation_shapes(c.tables, request.max_extension_log2)) {
    if (!is_met(c, set, operand, shape)) continue;
    return Service{.rotation = shape,
                   .noise = noise_at(c, set, operand, shape),
                   .ms = lookup_ms(set.parameters, shape, c.tables, request.cost_table)};
  }
  return std::nullopt;
}

// The cheapest wide lookup, or the given service where none is cheaper.
std::optional<Service> serve_widely(const NoiseConstraint& c, const KeySet& set, double operand,
                                    const ParameterRequest& request, std::optional<Service> best) {
  const TfheParameters& p = set.parameters;
  if (c.index_bits == 0 || !p.has_circuit_bootstrap()) return best;
  const double allowed = allowed_failure(c);
  for (const WideShape& shape : wide_shapes(c)) {
    const double ms = wide_lookup_ms(p, shape, request.cost_table, c.tables);
    if ((best && ms >= best->ms) || wide_failure(p, shape, operand) > allowed) continue;
    best = Service{{}, shape, wide_input_noise(p, shape, operand), ms};
  }
  return best;
}

// nullopt also where it costs as much as `most_cost` or more.
std::optional<ParameterChoice> apply(const std::vector<TfheParameters>& sets,
                                     const std::vector<std::size_t>& set_of,
                                     const ParameterRequest& request, double most_cost = HUGE_VAL) {
  ParameterChoice choice = describe(sets, set_of, request);
  for (std::size_t i = 0; i < request.constraints.size(); ++i) {
    const NoiseConstraint& c = request.constraints[i];
    const KeySet& set = choice.key_set_of(i);
    if (!set.parameters.has_bootstrap() && (c.is_lookup || c.bootstrap_norm2 > 0))
      return std::nullopt;
    const double operand = operand_variance(c, choice);
    const std::optional<Service> service =
        serve_widely(c, set, operand, request, serve_plainly(c, set, operand, request));
    if (!service) return std::nullopt;
    choice.extension_log2.push_back(service->rotation.extension_log2);
    choice.tables_log2.push_back(service->rotation.tables_log2);
    choice.wide.push_back(service->wide);
    choice.noise.push_back(service->noise);
    if (c.is_lookup) choice.cost_ms_per_core += static_cast<double>(c.lookup_count) * service->ms;
    if (choice.cost_ms_per_core >= most_cost) return std::nullopt;
  }
  return choice;
}

std::optional<ParameterChoice> apply(const TfheParameters& p, const ParameterRequest& request,
                                     double most_cost = HUGE_VAL) {
  return apply({p}, std::vector<std::size_t>(request.constraints.size(), 0), request, most_cost);
}

// The best choice within each limit.
class BestByLimit {
 public:
  BestByLimit(const std::vector<KeyBytes>& limits) : limits_(limits), best_(limits.size()) {}

  void add(const std::optional<ParameterChoice>& choice) {
    if (!choice) return;
    for (std::size_t i = 0; i < limits_.size(); ++i) {
      if (fits(choice->key_bytes, i) && choice->cost_ms_per_core < cost(i)) best_[i] = choice;
    }
  }

  // A choice with such keys is the best within some limit if it costs less than this.
  double most_cost(const KeyBytes& bytes) const {
    double most = 0;
    for (std::size_t i = 0; i < limits_.size(); ++i) {
      if (fits(bytes, i)) most = std::max(most, cost(i));
    }
    return most;
  }

  std::optional<ParameterChoice> worthwhile() const {
    std::vector<std::optional<double>> costs;
    for (const std::optional<ParameterChoice>& choice : best_)
      costs.push_back(choice ? std::optional(choice->cost_ms_per_core) : std::nullopt);
    const std::optional<std::size_t> found = torusml::worthwhile(costs);
    return found ? best_[*found] : std::nullopt;
  }

  // Each faster than those before it.
  std::vector<ParameterChoice> all() const {
    std::vector<ParameterChoice> choices;
    for (const std::optional<ParameterChoice>& choice : best_) {
      if (!choice) continue;
      if (choices.empty() || choice->cost_ms_per_core < choices.back().cost_ms_per_core)
        choices.push_back(*choice);
    }
    return choices;
  }

 private:
  bool fits(const KeyBytes& bytes, std::size_t i) const {
    return bytes.memory <= limits_[i].memory && bytes.wire <= limits_[i].wire;
  }
  double cost(std::size_t i) const { return best_[i] ? best_[i]->cost_ms_per_core : HUGE_VAL; }

  const std::vector<KeyBytes>& limits_;
  std::vector<std::optional<ParameterChoice>> best_;
};

// A way to do all lookups that may be wide.
struct WideOption {
  TfheParameters gadgets;
  std::vector<NoiseConstraint> wide, others;
  double cost = 0;  // of the wide lookups, at the parameters that suit them best

  std::vector<NoiseConstraint> all() const {
    std::vector<NoiseConstraint> constraints = others;
    constraints.insert(constraints.end(), wide.begin(), wide.end());
    return constraints;
  }
};

std::optional<WideOption> make_option(const ParameterRequest& request, const TfheParameters& p,
                                      std::size_t shape_index) {
  WideOption option{.gadgets = p};
  for (const NoiseConstraint& c : request.constraints) {
    if (c.index_bits == 0) {
      option.others.push_back(c);
      continue;
    }
    const std::vector<WideShape> shapes = wide_shapes(c);
    const std::vector<NoiseConstraint> parts =
        wide_constraints(c, p, shapes[std::min(shape_index, shapes.size() - 1)]);
    if (parts.empty()) return std::nullopt;
    option.wide.insert(option.wide.end(), parts.begin(), parts.end());
  }
  return option;
}

std::vector<WideOption> wide_options(const ParameterRequest& request) {
  std::size_t shapes = 0;
  for (const NoiseConstraint& c : request.constraints) {
    if (c.index_bits != 0) shapes = std::max(shapes, wide_shapes(c).size());
  }
  std::vector<WideOption> options;
  for (std::size_t shape = 0; shape < shapes; ++shape) {
    for (TfheParameters p : circuit_bootstrap_options()) {
      const std::uint32_t dimension = p.big_dimension().value;
      if (request.big_dimension != 0 && request.big_dimension != dimension) continue;
      p.glwe_variance = minimal_variance(dimension, request.security_bits);
      if (auto option = make_option(request, p, shape)) options.push_back(*std::move(option));
    }
  }
  return options;
}

// Beside many other lookups each search takes its time: those that suit the wide lookups best.
void keep_promising(const Search& search, std::vector<WideOption>& options) {
  constexpr std::size_t kKept = 2;
  for (WideOption& option : options) {
    const std::optional<SearchResult> found = search.run({.constraints = option.wide});
    option.cost = found ? found->cost : HUGE_VAL;
  }
  std::ranges::stable_sort(options, {}, &WideOption::cost);
  if (options.size() > kKept) options.resize(kKept);
}

void search_widely(const Search& search, const ParameterRequest& request,
                   const std::vector<KeyBytes>& limits, BestByLimit& best) {
  std::vector<WideOption> options = wide_options(request);
  const auto is_lookup = [](const NoiseConstraint& c) { return c.is_lookup; };
  if (!options.empty() && std::ranges::count_if(options.front().others, is_lookup) > 4)
    keep_promising(search, options);
  for (const WideOption& option : options) {
    const SearchRequest parts{option.all(), request.linear_multiplications,
                              request.max_extension_log2, request.big_dimension};
    for (const std::optional<SearchResult>& found : search.run(parts, limits)) {
      if (!found) continue;
      TfheParameters whole = found->parameters;
      whole.circuit_bootstrap = option.gadgets.circuit_bootstrap;
      whole.trace = option.gadgets.trace;
      best.add(apply(whole, request));
    }
  }
}

BestByLimit search_with_bootstrap(const Search& search, const ParameterRequest& request,
                                  const std::vector<KeyBytes>& limits) {
  BestByLimit best(limits);
  const SearchRequest whole{request.constraints, request.linear_multiplications,
                            request.max_extension_log2, request.big_dimension};
  for (const std::optional<SearchResult>& found : search.run(whole, limits)) {
    if (found) best.add(apply(found->parameters, request));
  }
  search_widely(search, request, limits, best);
  return best;
}

// Those of the given sets that the request asks for.
BestByLimit try_all(const std::vector<TfheParameters>& key_sets, const ParameterRequest& request,
                    const std::vector<KeyBytes>& limits) {
  BestByLimit best(limits);
  for (const TfheParameters& p : key_sets) {
    if (request.big_dimension == 0 || request.big_dimension == p.big_dimension().value)
      best.add(apply(p, request, best.most_cost(key_bytes(p))));
  }
  return best;
}

}  // namespace

KeySet make_key_set(const TfheParameters& parameters) {
  KeySet set{.parameters = parameters};
  if (parameters.has_bootstrap()) {
    set.bootstrap = blind_rotation_variance(parameters);
    set.keyswitch = keyswitch_variance(parameters);
  }
  return set;
}

std::optional<ParameterChoice> apply_parameters(const TfheParameters& parameters,
                                                const ParameterRequest& request) {
  check(request);
  return apply(parameters, request);
}

std::optional<ParameterChoice> apply_key_sets(const std::vector<TfheParameters>& key_sets,
                                              const std::vector<std::size_t>& set_of,
                                              const ParameterRequest& request) {
  check(request);
  return apply(key_sets, set_of, request);
}

bool has_wide_lookup(const ParameterChoice& choice) {
  return std::ranges::any_of(choice.wide, [](const WideShape& w) { return w.index_bits != 0; });
}

bool is_preferable(const ParameterChoice& a, const ParameterChoice& b) {
  const auto key_class = [](const KeyBytes& bytes) {
    std::size_t c = 0;
    while (bytes.memory > kKeyClasses[c].memory || bytes.wire > kKeyClasses[c].wire) ++c;
    return c;
  };
  const std::size_t of_a = key_class(a.key_bytes), of_b = key_class(b.key_bytes);
  if (of_a > of_b) return a.cost_ms_per_core <= kWorthLargerKeys * b.cost_ms_per_core;
  if (of_a < of_b) return b.cost_ms_per_core > kWorthLargerKeys * a.cost_ms_per_core;
  return a.cost_ms_per_core < b.cost_ms_per_core;
}

std::optional<ParameterChoice> choose_among(const std::vector<TfheParameters>& key_sets,
                                            const ParameterRequest& request) {
  check(request);
  const std::vector<KeyBytes> limits = key_limits(request);
  return try_all(key_sets, request, limits).worthwhile();
}

std::vector<ParameterChoice> choose_by_class(const ParameterRequest& request,
                                             const KeyBytes& held) {
  check(request);
  const Search search(std::make_unique<TorusmlModel>(request.security_bits, request.cost_table));
  const std::vector<KeyBytes> limits = key_limits(request, held);
  return search_with_bootstrap(search, request, limits).all();
}

std::vector<ParameterChoice> choose_by_class_among(const std::vector<TfheParameters>& key_sets,
                                                   const ParameterRequest& request,
                                                   const KeyBytes& held) {
  check(request);
  const std::vector<KeyBytes> limits = key_limits(request, held);
  return try_all(key_sets, request, limits).all();
}

std::optional<ParameterChoice> choose_parameters(const ParameterRequest& request,
                                                 std::string* tightest) {
  check(request);
  std::optional<Search> search;
  const auto solve = [&](const std::vector<NoiseConstraint>& constraints,
                         const std::vector<KeyBytes>& limits) -> std::optional<ParameterChoice> {
    ParameterRequest part = request;
    part.constraints = constraints;
    if (!needs_bootstrap(constraints)) {
      const auto found = choose_without_bootstrap(constraints, request.security_bits);
      return found ? apply(*found, part) : std::nullopt;
    }
    if (!search)
      search.emplace(std::make_unique<TorusmlModel>(request.security_bits, request.cost_table));
    return search_with_bootstrap(*search, part, limits).worthwhile();
  };
  const std::vector<KeyBytes> any{kAnyKeyBytes};
  if (auto choice = solve(request.constraints, key_limits(request))) return choice;
  if (tightest == nullptr) return std::nullopt;
  *tightest =
      solve(request.constraints, any)
          ? kKeyLimit
          : name_tightest(request.constraints, [&](const std::vector<NoiseConstraint>& alone) {
              return solve(alone, any).has_value();
            });
  return std::nullopt;
}

}  // namespace torusml
