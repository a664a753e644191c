#include "parameters/split.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <utility>

#include "parameters/cost.h"
#include "parameters/noise.h"
#include "parameters/wide_lookups.h"

namespace torusml {
namespace {

constexpr std::size_t kDemanding = 0, kOther = 1;
// By constraint: which of the two sets serves it; outputs belong to the first.
using Division = std::vector<std::size_t>;

// A free search takes its time.
constexpr std::size_t kMostCuts = 6, kMostCutsOfSearch = 3;

double square(double x) { return x * x; }

// One of the two sets, and how it serves lookups; by constraint of the whole request.
struct Side {
  KeySet set;
  std::vector<RotationShape> rotation;
  std::vector<WideShape> wide;
};

Side side_of(const ParameterChoice& choice, std::size_t set) {
  Side side{choice.key_sets[set], {}, choice.wide};
  for (std::size_t i = 0; i < choice.wide.size(); ++i) side.rotation.push_back(choice.rotation(i));
  return side;
}

// The largest variance of its input at which a wide lookup is right.
double wide_room(const NoiseConstraint& c, const TfheParameters& p, const WideShape& shape) {
  constexpr int kSteps = 40;
  const double allowed = allowed_failure(c);
  double good = -300, bad = 0;  // log2
  for (int step = 0; step < kSteps; ++step) {
    const double middle = (good + bad) / 2;
    (wide_failure(p, shape, std::exp2(middle)) <= allowed ? good : bad) = middle;
  }
  return std::exp2(good);
}

// The largest variance at the operand of a lookup that stays served as it is.
double operand_room(const NoiseConstraint& c, const Side& side, std::size_t constraint) {
  const TfheParameters& p = side.set.parameters;
  if (side.wide[constraint].index_bits != 0) return wide_room(c, p, side.wide[constraint]);
  const std::uint64_t size = side.rotation[constraint].table_size(p.polynomial_size);
  return square(c.limit_sigma - c.table_step_weight / (4 * static_cast<double>(size))) -
         side.set.keyswitch.value - modulus_switch_variance(p.small_dimension, 2 * size).value;
}

// Limits of noise between which lookups are divided: the demanding ones have at most the limit. The
// widest gaps come first.
std::vector<double> cuts(const std::vector<NoiseConstraint>& constraints, std::size_t most) {
  std::vector<double> limits;
  for (const NoiseConstraint& c : constraints) {
    if (c.is_lookup) limits.push_back(c.limit_sigma);
  }
  std::ranges::sort(limits);
  limits.erase(std::ranges::unique(limits).begin(), limits.end());
  std::vector<std::pair<double, double>> gaps;  // quotient of neighbours, the lower one
  for (std::size_t i = 0; i + 1 < limits.size(); ++i)
    gaps.emplace_back(limits[i + 1] / limits[i], limits[i]);
  std::ranges::stable_sort(gaps, std::greater<>(), &std::pair<double, double>::first);
  if (gaps.size() > most) gaps.resize(most);
  std::vector<double> result;
  for (const auto& [quotient, limit] : gaps) result.push_back(limit);
  return result;
}

Division divide(const std::vector<NoiseConstraint>& constraints, double cut) {
  Division division;
  for (const NoiseConstraint& c : constraints)
    division.push_back(c.is_lookup && c.limit_sigma > cut ? kOther : kDemanding);
  return division;
}

// With the lookups whose results reach a demanding one.
Division with_sources(const std::vector<NoiseConstraint>& constraints, const Division& division) {
  Division result = division;
  for (std::size_t i = 0; i < constraints.size(); ++i) {
    if (!constraints[i].is_lookup || division[i] != kDemanding) continue;
    for (const SourceNorm& source : constraints[i].sources) result[source.constraint] = kDemanding;
  }
  return result;
}

class Splitter {
 public:
  Splitter(const ParameterRequest& request, const ParameterChoice& one,
           const ParameterChoice& rival, bool from_catalogue)
      : request_(request),
        one_(one),
        rival_(rival),
        from_catalogue_(from_catalogue),
        may_keep_set_(!from_catalogue || one.key_sets[0].name != kCustomKeySet) {}

  std::optional<ParameterChoice> run() {
    for (const Division& division : divisions()) {
      if (may_keep_set_) add_others(division, side_of(one_, 0));
      for (const Side& demanding : solve(division, kDemanding, nullptr))
        add_others(division, demanding);
    }
    if (const std::optional<ParameterChoice> pair = best(pairs_)) {
      const Side other = side_of(*pair, kOther);
      for (const Side& demanding : solve(pair->set_of, kDemanding, &other))
        consider(demanding.set, other.set, pair->set_of);
    }
    std::erase_if(pairs_, [&](const ParameterChoice& pair) {
      return !is_worth_second_key_set(pair, rival_);
    });
    return best(pairs_);
  }

 private:
  std::vector<Division> divisions() const {
    std::vector<Division> result;
    const auto add = [&](const Division& division) {
      const bool is_new = std::ranges::find(result, division) == result.end();
      if (is_new && std::ranges::find(division, kOther) != division.end())
        result.push_back(division);
    };
    const std::size_t most = from_catalogue_ ? kMostCuts : kMostCutsOfSearch;
    for (const double cut : cuts(request_.constraints, most)) {
      const Division division = divide(request_.constraints, cut);
      add(division);
      add(with_sources(request_.constraints, division));
    }
    return result;
  }

  // Pairs with the best sets for the others beside the given one.
  void add_others(const Division& division, const Side& demanding) {
    for (const Side& other : solve(division, kOther, &demanding))
      consider(demanding.set, other.set, division);
  }

  // The best sets for one side, beside what the other side has; null: whatever that may be.
  std::vector<Side> solve(const Division& division, std::size_t side, const Side* given) const {
    std::vector<std::size_t> index;
    const std::optional<ParameterRequest> request = half(division, side, given, index);
    if (!request) return {};
    const KeyBytes held = given == nullptr ? KeyBytes{} : key_bytes(given->set.parameters);
    std::vector<Side> sides;
    for (const ParameterChoice& choice : from_catalogue_
                                             ? choose_by_class_among(catalogue(), *request, held)
                                             : choose_by_class(*request, held)) {
      const std::size_t count = request_.constraints.size();
      Side& solved = sides.emplace_back(Side{choice.key_sets[0], std::vector<RotationShape>(count),
                                             std::vector<WideShape>(count)});
      for (std::size_t i = 0; i < index.size(); ++i) {
        solved.rotation[index[i]] = choice.rotation(i);
        solved.wide[index[i]] = choice.wide[i];
      }
    }
    return sides;
  }

  // What the set of one side has to satisfy. Lookups of the other side stay as they are served, and
  // bear what noise they have room for; where nothing is given they do not count. index: of the
  // constraints in the whole request.
  std::optional<ParameterRequest> half(const Division& division, std::size_t side,
                                       const Side* given, std::vector<std::size_t>& index) const {
    ParameterRequest request = request_;
    request.constraints.clear();
    if (given != nullptr) request.big_dimension = given->set.parameters.big_dimension().value;
    for (std::size_t i = 0; i < request_.constraints.size(); ++i) {
      const bool is_own = division[i] == side || !request_.constraints[i].is_lookup;
      if (!is_own && given == nullptr) continue;
      NoiseConstraint c = own_share(request_.constraints[i], division, side, given);
      const bool is_own_lookup = is_own && c.is_lookup;
      if (!is_own_lookup && c.bootstrap_norm2 == 0) continue;  // not for this set to satisfy
      if (!is_own) {
        const double room = operand_room(c, *given, i);
        if (room <= 0) return std::nullopt;
        c = {.name = c.name,
             .is_lookup = false,
             .fresh_norm2 = c.fresh_norm2,
             .bootstrap_norm2 = c.bootstrap_norm2,
             .limit_sigma = std::sqrt(room),
             .extra_variance = c.extra_variance};
      }
      request.constraints.push_back(std::move(c));
      index.push_back(i);
    }
    return request;
  }

  // The constraint with the noise of the other side's set as a number. Where sources are not known,
  // or the other set is not, all counts as the own side's.
  static NoiseConstraint own_share(NoiseConstraint c, const Division& division, std::size_t side,
                                   const Side* given) {
    if (given != nullptr && !c.sources.empty()) {
      c.bootstrap_norm2 = 0;
      for (const SourceNorm& source : c.sources) {
        if (division[source.constraint] == side)
          c.bootstrap_norm2 += source.norm2;
        else
          c.extra_variance += source.norm2 * given->set.bootstrap.value;
      }
    }
    c.sources.clear();
    return c;
  }

  void consider(const KeySet& demanding, const KeySet& other, const Division& division) {
    if (demanding.parameters == other.parameters) return;
    std::optional<ParameterChoice> pair =
        apply_key_sets({demanding.parameters, other.parameters}, division, request_);
    if (!pair || pair->cost_ms_per_core >= rival_.cost_ms_per_core) return;
    if (from_catalogue_) {
      for (KeySet& set : pair->key_sets) set.name = key_set_name(set.parameters);
    }
    pairs_.push_back(*std::move(pair));
  }

  static std::optional<ParameterChoice> best(const std::vector<ParameterChoice>& choices) {
    std::optional<ParameterChoice> result;
    for (const ParameterChoice& choice : choices) {
      if (!result || is_preferable(choice, *result)) result = choice;
    }
    return result;
  }

  const ParameterRequest& request_;
  const ParameterChoice& one_;
  const ParameterChoice& rival_;
  const bool from_catalogue_;
  const bool may_keep_set_;  // the single one for one of the sides
  std::vector<ParameterChoice> pairs_;
};

}  // namespace

bool is_worth_second_key_set(const ParameterChoice& two, const ParameterChoice& one) {
  return two.cost_ms_per_core <= kWorthSecondKeySet * one.cost_ms_per_core &&
         is_preferable(two, one);
}

std::optional<ParameterChoice> split_key_set(const ParameterRequest& request,
                                             const ParameterChoice& one,
                                             const ParameterChoice& rival, KeySetSource source) {
  if (!one.key_sets[0].parameters.has_bootstrap()) return std::nullopt;
  if (source == KeySetSource::catalogue && request.security_bits == kCatalogueSecurityBits) {
    std::optional<ParameterChoice> two = Splitter(request, one, rival, true).run();
    if (two || one.key_sets[0].name != kCustomKeySet) return two;
  }
  return Splitter(request, one, rival, false).run();
}

}  // namespace torusml
