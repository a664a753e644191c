#include "compiler/precision_search.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <map>
#include <optional>
#include <utility>

#include "compiler/plan_cost.h"
#include "compiler/precision_score.h"
#include "compiler/trials.h"
#include "runtime/executors.h"
#include "torusml/error.h"

namespace torusml {
namespace {

// Rungs: tolerances 2^-4, 2^-4.125, ... 2^-11, then exact. Key sets are a quarter of a bit apart
// and less, so a coarser ladder would miss cheaper ones.
constexpr double kCoarsestBits = 4, kRungBits = 0.125;
constexpr int kTolerantRungs = 57, kExactRung = kTolerantRungs;
constexpr std::size_t kMostParts = 16;
// In rungs: how much coarser parts are tried than the best uniform rung, and how much coarser a
// part is for its sensitivity.
constexpr std::array kCoarserRungs = {1, 2, 4, 8, 12, 16};
constexpr int kProbeRungs = 8;
// A metric's loss is what is lost less what chance gains: it scatters more.
constexpr std::size_t kWantedDraws = 2000,
                      kWantedMetricDraws = 10000;  // samples times simulations of each, in a trial
constexpr double kMostLookupsDrawn = 4e8;          // in a trial, which may leave fewer draws
// Judged on the samples held out: so many that passed, and finer uniform rungs in reserve. The
// search leaves kLeastJudged of its trials to them.
constexpr std::size_t kMostVerified = 6, kMostReserves = 12, kLeastJudged = 8;
// Looser targets that are worth a word: so many at most, no looser than so many times the target,
// each with at most this share of the time of the one before. Of targets that are almost the same
// the cheapest.
constexpr std::size_t kMostLooser = 3;
constexpr double kLoosestTarget = 8, kWorthwhileShare = 0.7, kSameTarget = 1.25;

using Rungs = std::vector<int>;  // by part

LayerPrecision precision_at(int rung) {
  if (rung >= kExactRung) return {};
  return {Precision::tolerant, std::exp2(-(kCoarsestBits + kRungBits * rung))};
}

// Names of encrypted lookups and of outputs that have no precision yet, in the order of the
// circuit, cut into parts of neighbours.
std::vector<std::vector<std::string>> cut_into_parts(
    const Circuit& circuit, const std::map<std::string, LayerPrecision>& fixed) {
  const std::vector<bool> is_clear = clear_values(circuit);
  std::vector<std::string> names;
  for (const Node& node : circuit.nodes) {
    const auto* lut = std::get_if<Lut>(&node.op);
    const bool is_read = lut ? !is_clear[lut->operand] : std::holds_alternative<Output>(node.op);
    if (is_read && !fixed.contains(node.name) && std::ranges::find(names, node.name) == names.end())
      names.push_back(node.name);
  }
  const std::size_t parts = std::min(kMostParts, names.size());
  std::vector<std::vector<std::string>> cut(parts);
  for (std::size_t i = 0; i < names.size(); ++i) cut[i * parts / names.size()].push_back(names[i]);
  return cut;
}

// Plans that differ in what they ask for but not in what they are have the same loss.
std::string identity_of(const Plan& plan) {
  std::string text = names_of(plan.key_sets);
  for (const auto& [node, lookup] : plan.lookups)
    text += fmt::format(" {}:{}", lookup.key_set, lookup.noise.value);
  for (const TensorPlan& tensor : plan.tensors) text += fmt::format(" {}", tensor.scale);
  return text;
}

struct Candidate {
  Rungs rungs;
  double cost = 0;
};

// A plan that was simulated on the samples to choose by.
struct Trial {
  double loss = 0, cost = 0;
};

class Searcher {
 public:
  Searcher(const Circuit& circuit, const ClientSpec& client,
           const std::vector<Tensor<std::int64_t>>& inputs, const PlanOptions& options,
           const PrecisionSearch& search)
      : circuit_(circuit),
        client_(client),
        inputs_(inputs),
        options_(options),
        search_(search),
        parts_(cut_into_parts(circuit, options.layers)),
        exact_(to_floats(run_clear(circuit, inputs))),
        score_(search.target, exact_) {}

  PrecisionFound run() {
    if (parts_.empty()) {
      throw Error(ErrorCode::invalid_argument,
                  "every lookup and output has a precision of its own: nothing is left to choose",
                  "precision \"auto\"", "precision \"exact\" or \"tolerant\" beside them");
    }
    if (options_.profile == Profile::shared_results || has_nothing_to_gain())
      return found(uniform(kExactRung), 0);
    split_samples();
    add_exact();
    const int best = coarsest_uniform();
    refine(best);
    return verified(best);
  }

 private:
  // Time is spent at lookups.
  bool has_nothing_to_gain() {
    return lookup_count(circuit_) == 0 && is_exact(uniform(kExactRung)) &&
           plan_at(uniform(kExactRung)).has_value();
  }

  std::vector<Tensor<double>> to_floats(const std::vector<Tensor<std::int64_t>>& integers) const {
    std::vector<Tensor<double>> floats;
    for (std::size_t o = 0; o < integers.size(); ++o)
      floats.push_back(dequantize_output(client_.outputs[o], integers[o]));
    return floats;
  }

  // Of many samples some thousand. Other samples tell more than other noise on the same ones.
  void split_samples() {
    const auto affordable = static_cast<std::size_t>(kMostLookupsDrawn / lookups());
    const std::size_t most =
        std::max({kWantedDraws, 4 * score_.least_samples(), std::min(wanted_draws(), affordable)});
    const auto samples = static_cast<std::size_t>(inputs_[0].shape[0]);
    SampleSplit split = score_.split(samples, most, search_.seed);
    chosen_by_ = std::move(split.chosen_by);
    held_out_ = std::move(split.held_out);
  }

  Rungs uniform(int rung) const { return Rungs(parts_.size(), rung); }

  bool is_exact(const Rungs& rungs) const {
    const auto is_fixed_exact = [](const auto& layer) {
      return layer.second.policy == Precision::exact;
    };
    return rungs == uniform(kExactRung) && std::ranges::all_of(options_.layers, is_fixed_exact);
  }

  PlanOptions options_at(const Rungs& rungs) const {
    PlanOptions options = options_;
    options.precision = Precision::automatic;
    for (std::size_t p = 0; p < parts_.size(); ++p) {
      for (const std::string& name : parts_[p]) options.layers[name] = precision_at(rungs[p]);
    }
    return options;
  }

  // None where no key set serves.
  const std::optional<Plan>& plan_at(const Rungs& rungs) {
    const auto [entry, is_new] = plans_.try_emplace(rungs);
    if (!is_new) return entry->second;
    try {
      entry->second = make_plan(circuit_, options_at(rungs));
    } catch (const Error& error) {
      if (!is_too_demanding(error) && !cannot_pack(error, options_)) throw;
      failure_ = error;
    }
    return entry->second;
  }

  double lookups() const {
    return std::max<double>(1, static_cast<double>(lookup_count(circuit_)));
  }

  std::size_t wanted_draws() const {
    return score_.criterion() == Criterion::metric ? kWantedMetricDraws : kWantedDraws;
  }

  std::size_t draws_of(std::size_t samples) const {
    const double affordable = kMostLookupsDrawn / lookups() / static_cast<double>(samples);
    const auto wanted = static_cast<double>((wanted_draws() + samples - 1) / samples);
    return static_cast<std::size_t>(std::max(1.0, std::min(affordable, wanted)));
  }

  double loss_of(const Plan& plan, const std::vector<std::size_t>& samples, std::uint64_t stream,
                 FlipCounts* flips = nullptr) {
    const std::vector<Tensor<std::int64_t>> inputs = take_samples(inputs_, samples);
    const std::size_t draws = draws_of(samples.size());
    double total = 0;
    for (std::size_t d = 0; d < draws; ++d) {
      const std::uint64_t seed = search_.seed + 2 * d + stream;
      total +=
          score_.loss(to_floats(run_simulated(circuit_, plan, inputs, seed, {}, flips)), samples);
    }
    trials_.add();
    return total / static_cast<double>(draws);
  }

  // On the samples to choose by; infinite where there is no plan.
  double loss_at(const Rungs& rungs) {
    const std::optional<Plan>& plan = plan_at(rungs);
    if (!plan) return std::numeric_limits<double>::infinity();
    if (is_exact(rungs)) return 0;
    const auto [entry, is_new] = tried_.try_emplace(identity_of(*plan));
    if (is_new) entry->second = {loss_of(*plan, chosen_by_, 0), plan->cost_ms_per_core};
    return entry->second.loss;
  }

  bool passes(const Rungs& rungs) {
    const double loss = loss_at(rungs);
    if (loss > score_.most_loss()) return false;
    candidates_.push_back({rungs, plan_at(rungs)->cost_ms_per_core});
    return true;
  }

  void add_exact() {
    const std::optional<Plan>& exact = plan_at(uniform(kExactRung));
    if (!exact || !is_exact(uniform(kExactRung))) return;
    candidates_.push_back({uniform(kExactRung), exact->cost_ms_per_core});
    exact_cost_ = exact->cost_ms_per_core;
  }

  // kExactRung where no tolerance will do. A finer tolerance never has the larger loss, but for
  // chance.
  int coarsest_uniform() {
    int low = 0, high = kExactRung;  // high passes
    while (low < high) {
      const int middle = (low + high) / 2;
      if (passes(uniform(middle)))
        high = middle;
      else
        low = middle + 1;
    }
    return high;
  }

  // Infinite where not even exact has a plan.
  double least_cost() const {
    const auto cheapest = std::ranges::min_element(candidates_, {}, &Candidate::cost);
    return cheapest == candidates_.end() ? std::numeric_limits<double>::infinity() : cheapest->cost;
  }

  // Coarser rungs for the least sensitive parts.
  void refine(int base) {
    if (parts_.size() < 2 || base == 0) return;
    const std::vector<std::size_t> order = least_sensitive_first(base);
    for (const int step : kCoarserRungs) {
      if (step > base || !trials_.may_try()) return;
      refine(base, step, order);
    }
  }

  std::vector<std::size_t> least_sensitive_first(int base) {
    std::vector<std::pair<double, std::size_t>> sensitivity;
    for (std::size_t p = 0; p < parts_.size(); ++p) {
      Rungs rungs = uniform(base);
      rungs[p] = std::max(0, base - kProbeRungs);
      sensitivity.emplace_back(trials_.may_try() ? loss_at(rungs) : 0, p);
    }
    std::ranges::sort(sensitivity);
    std::vector<std::size_t> order;
    for (const auto& [loss, part] : sensitivity) order.push_back(part);
    return order;
  }

  // The most parts, in this order, that can be `step` rungs coarser.
  void refine(int base, int step, const std::vector<std::size_t>& order) {
    std::size_t low = 0, high = order.size() - 1;
    while (low < high && trials_.may_try()) {
      const std::size_t count = (low + high + 1) / 2;
      Rungs rungs = uniform(base);
      for (std::size_t i = 0; i < count; ++i) rungs[order[i]] = base - step;
      const std::optional<Plan>& plan = plan_at(rungs);
      // What takes no less time is of no use, nor is what has fewer coarse parts.
      if (plan && plan->cost_ms_per_core < least_cost() && passes(rungs))
        low = count;
      else if (plan && plan->cost_ms_per_core >= least_cost())
        low = count;
      else
        high = count - 1;
    }
  }

  void add(int rung) {
    const std::optional<Plan>& plan = plan_at(uniform(rung));
    if (plan) candidates_.push_back({uniform(rung), plan->cost_ms_per_core});
  }

  // What is judged on the samples held out, by cost: the cheapest candidates, and finer uniform
  // rungs in case that none of them passes, exact the last of them. No more than trials are left.
  std::vector<Candidate> finalists(int base) {
    std::erase_if(candidates_, [&](const Candidate& c) { return c.rungs == uniform(kExactRung); });
    std::ranges::stable_sort(candidates_, {}, &Candidate::cost);
    const std::size_t left = std::max<std::size_t>(trials_.left(), 1) - 1;  // one for exact
    if (candidates_.size() > std::min(kMostVerified, left / 2))
      candidates_.resize(std::min(kMostVerified, left / 2));
    add_reserves(base, std::min(kMostReserves, left - candidates_.size()));
    add(kExactRung);
    std::ranges::stable_sort(candidates_, {}, &Candidate::cost);
    return std::move(candidates_);
  }

  // Close to each other next to the base, where they cost little more.
  void add_reserves(int base, std::size_t count) {
    const int finest = kExactRung - 1 - base;
    int last = 0;
    for (std::size_t i = 1; i <= count && last < finest; ++i) {
      const double share = static_cast<double>(i) / static_cast<double>(count);
      const int finer = static_cast<int>(std::lround(std::pow(finest, share)));
      if (finer == last) continue;
      add(base + finer);
      last = finer;
    }
  }

  // The first finalist that passes.
  PrecisionFound verified(int base) {
    std::optional<double> best;
    std::string judged;  // of one cost, the plan of the next rung is often the same
    for (const auto& [rungs, cost] : finalists(base)) {
      if (identity_of(*plan_at(rungs)) == judged) continue;
      judged = identity_of(*plan_at(rungs));
      flips_.clear();
      const double loss = is_exact(rungs) ? 0 : loss_of(*plan_at(rungs), held_out_, 1, &flips_);
      if (loss <= score_.most_loss()) return found(rungs, loss);
      best = std::min(best.value_or(loss), loss);
    }
    fail(best);
  }

  [[noreturn]] void fail(std::optional<double> best) const {
    if (!best && tried_.empty() && failure_) throw *failure_;
    double least = best.value_or(std::numeric_limits<double>::infinity());
    for (const auto& [plan, trial] : tried_) least = std::min(least, trial.loss);
    if (failure_ && cannot_pack(*failure_, options_)) throw Error(*failure_);
    const std::string limit = failure_
                                  ? "precision \"exact\" has no parameters: " + failure_->message()
                                  : "the layers whose precision is fixed allow no better";
    throw Error(ErrorCode::target_not_met,
                fmt::format("no tolerance meets {} of {:.4g}; the best has {:.4g}, and {}",
                            score_.loss_text(), score_.most_loss(), least, limit),
                failure_ ? failure_->where() : "",
                "a looser target, fewer bits for weights and activations, or pruning");
  }

  std::vector<PrecisionReport::Looser> looser_than(double cost) const {
    std::vector<Trial> trials;
    for (const auto& [plan, trial] : tried_) trials.push_back(trial);
    std::ranges::sort(trials, {}, [](const Trial& t) { return std::pair(t.loss, t.cost); });
    std::vector<PrecisionReport::Looser> looser;
    for (const auto& [loss, its_cost] : trials) {
      if (loss <= score_.most_loss() || its_cost > kWorthwhileShare * cost) continue;
      if (loss > kLoosestTarget * score_.most_loss()) break;
      if (!looser.empty() && loss < kSameTarget * looser.back().loss) looser.pop_back();
      if (looser.size() == kMostLooser) break;
      looser.push_back({loss, its_cost});
      cost = its_cost;
    }
    return looser;
  }

  PrecisionFound found(const Rungs& rungs, double loss) {
    PrecisionFound result;
    result.options = options_at(rungs);
    result.is_exact = is_exact(rungs);
    const std::size_t draws = result.is_exact ? 0 : draws_of(held_out_.size());
    result.report = {.criterion = score_.criterion(),
                     .most_loss = score_.most_loss(),
                     .loss = loss,
                     .samples = static_cast<std::int64_t>(held_out_.size()),
                     .draws = static_cast<std::int64_t>(draws),
                     .trials = trials_.count(),
                     .exact_ms_per_core = exact_cost_,
                     .looser = {},
                     .flip_rates = {}};
    if (const std::optional<Plan>& plan = plan_at(rungs))
      result.report.looser = looser_than(plan->cost_ms_per_core);
    for (const auto& [node, counts] : flips_) result.report.flip_rates[node] = counts.flip_rate();
    return result;
  }

  const Circuit& circuit_;
  const ClientSpec& client_;
  const std::vector<Tensor<std::int64_t>>& inputs_;
  const PlanOptions& options_;
  const PrecisionSearch& search_;
  const std::vector<std::vector<std::string>> parts_;
  const std::vector<Tensor<double>> exact_;
  const PrecisionScore score_;
  std::vector<std::size_t> chosen_by_, held_out_;
  std::map<Rungs, std::optional<Plan>> plans_;
  std::map<std::string, Trial> tried_;  // by identity_of a plan
  std::vector<Candidate> candidates_;   // that pass on the samples to choose by
  FlipCounts flips_;                    // of the candidate that is judged
  std::optional<Error> failure_;
  double exact_cost_ = 0;
  Trials trials_{search_.max_trials, static_cast<int>(kLeastJudged), search_.progress};
};

}  // namespace

PrecisionTarget make_target(bool has_search, double agreement, double relative_error, Metric metric,
                            double max_loss) {
  const int given = (agreement != 0 ? 1 : 0) + (relative_error != 0 ? 1 : 0) + (metric ? 1 : 0);
  if (given > 1) {
    throw Error(ErrorCode::invalid_argument,
                "agreement, relative_error and metric exclude each other", "precision \"auto\"",
                "give one of them");
  }
  if (given == 1 && !has_search) {
    throw Error(ErrorCode::invalid_argument,
                "a target is for precision \"auto\" or bits \"auto\", and neither was asked for",
                agreement != 0        ? "agreement"
                : relative_error != 0 ? "relative_error"
                                      : "metric",
                "precision \"auto\"");
  }
  PrecisionTarget target;
  if (agreement != 0) {
    target.criterion = Criterion::argmax;
    target.least_agreement = agreement;
  } else if (relative_error != 0) {
    target.criterion = Criterion::relative_error;
    target.most_relative_error = relative_error;
  } else if (metric) {
    target.criterion = Criterion::metric;
    target.metric = std::move(metric);
    target.max_loss = max_loss;
  }
  return target;
}

void check_own_tolerance(Precision precision, const char* where) {
  if (precision != Precision::automatic) return;
  throw Error(ErrorCode::invalid_argument, "precision \"auto\" chooses tolerances itself", where,
              "precision \"tolerant\", or a tolerance for single layers");
}

PrecisionFound search_precision(const Circuit& circuit, const ClientSpec& client,
                                const std::vector<Tensor<std::int64_t>>& inputs,
                                const PlanOptions& options, const PrecisionSearch& search) {
  constexpr int kLeastTrials = 16, kMostTrials = 10000;
  if (search.max_trials < kLeastTrials || search.max_trials > kMostTrials) {
    throw Error(ErrorCode::invalid_argument,
                fmt::format("max_trials is {}; it must lie between {} and {}", search.max_trials,
                            kLeastTrials, kMostTrials),
                "precision \"auto\"");
  }
  return Searcher(circuit, client, inputs, options, search).run();
}

}  // namespace torusml
