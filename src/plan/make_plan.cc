#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "circuit/norms.h"
#include "parameters/noise.h"
#include "parameters/split.h"
#include "parameters/wide_lookups.h"
#include "parameters/wire_noise.h"
#include "plan/options.h"
#include "plan/parameter_request.h"
#include "plan/plan.h"
#include "plan/read_probabilities.h"
#include "plan/readers.h"
#include "plan/torus_scales.h"
#include "plan/wire_size.h"
#include "tfhe/wire_words.h"
#include "torusml/error.h"

namespace torusml {
namespace {

// Two key sets in place of the best one for a request, if they are worth it beside a rival.
using KeySetSplit = std::function<std::optional<ParameterChoice>(
    const ParameterRequest& request, const ParameterChoice& one, const ParameterChoice& rival)>;

void check_profile(const PlanOptions& options) {
  if (options.profile != Profile::shared_results || options.p_error <= kDefaultShared) return;
  throw Error(
      ErrorCode::profile_forbids,
      fmt::format("profile shared_results needs a p_error of at most 2^-128, {:.3g} was asked for",
                  options.p_error),
      "",
      "no p_error of your own, or profile private_results if only the key's owner sees results");
}

bool is_wide(const ParameterChoice& choice, std::size_t reader) {
  return !choice.wide.empty() && choice.wide[reader].index_bits != 0;
}

// Chooses key sets for the readers of a circuit, then writes down what follows: scales, noise,
// probabilities. In arguments, `index` is a reader's place among them.
class Planner {
 public:
  Planner(const Circuit& circuit, const PlanOptions& options, const ParameterSearch& search,
          const KeySetSplit& split)
      : circuit_(circuit), search_(search), split_(split) {
    check_options(options);
    plan_.circuit_name = circuit.name;
    plan_.options = options;
  }

  Plan run() {
    Readers found = find_readers(circuit_, plan_.options);
    readers_ = std::move(found.readers);
    plan_.options.p_error = resolve_p_error(plan_.options, events());
    check_profile(plan_.options);
    kappa_ = kappa(plan_.options.p_error);
    set_tolerances();
    for (const Reader& reader : readers_) check_width(circuit_, plan_.options, reader);
    const ParameterChoice choice = choose();
    plan_.key_sets = choice.key_sets;
    plan_.fresh = choice.fresh;
    plan_.cost_ms_per_core = choice.cost_ms_per_core;
    plan_.lookup_count = lookup_count(circuit_);
    choose_wire_form(choice);
    place_tensors(choice, found.group_of);
    for (std::size_t r = 0; r < readers_.size(); ++r) describe(choice, r);
    plan_.sample_p_error = -std::expm1(log_success_);
    return std::move(plan_);
  }

 private:
  double events() const {
    double total = 0;
    for (const Reader& reader : readers_) total += reader.events();
    return total;
  }

  // Of those that have none of their own; it may follow from p_error.
  void set_tolerances() {
    if (plan_.options.approximate_bits != 0)
      plan_.options.tolerance = std::exp2(-plan_.options.approximate_bits) / (2 * kappa_);
    for (Reader& reader : readers_) {
      if (reader.policy == Precision::tolerant && reader.tolerance == 0)
        reader.tolerance = plan_.options.tolerance;
    }
  }

  ParameterRequest request(bool may_use_wide) const {
    return make_parameter_request(circuit_, plan_.options, readers_, kappa_, may_use_wide);
  }

  // The better of two: with wide lookups allowed, whose values must be aligned, and without. Then
  // the same with two key sets in place of one.
  ParameterChoice choose() {
    std::string tightest;
    const ParameterRequest plain = request(false);
    const std::optional<ParameterChoice> choice = search_(plain, &tightest);
    std::optional<ParameterRequest> aligned;
    std::optional<ParameterChoice> wide;
    if (std::ranges::any_of(readers_, may_be_wide)) {
      aligned = request(true);
      wide = search_(*aligned, nullptr);
    }
    is_aligned_ = wide && has_wide_lookup(*wide) && (!choice || is_preferable(*wide, *choice));
    if (!choice && !is_aligned_) fail_without_parameters(tightest);
    const ParameterChoice& one = is_aligned_ ? *wide : *choice;
    ParameterChoice best = one;
    if (choice) split(plain, *choice, one, false, best);
    if (wide) split(*aligned, *wide, one, true, best);
    return best;
  }

  // Takes two key sets for this request where they are better than the best so far.
  void split(const ParameterRequest& request, const ParameterChoice& choice,
             const ParameterChoice& one, bool is_aligned, ParameterChoice& best) {
    if (!split_ || plan_.options.max_key_sets == 1) return;
    std::optional<ParameterChoice> two = split_(request, choice, one);
    if (!two || !is_preferable(*two, best)) return;
    best = *std::move(two);
    is_aligned_ = is_aligned;
    plan_.one_key_set = {one.key_sets[0].name, one.cost_ms_per_core, one.key_bytes};
  }

  // Names the reader that the search found tightest, and of several the widest.
  [[noreturn]] void fail_without_parameters(const std::string& tightest) const {
    const auto rank = [&](const Reader& reader) {
      return std::pair(circuit_.nodes[reader.node].name == tightest, reader.values);
    };
    const Reader& widest = *std::ranges::max_element(readers_, {}, rank);
    const bool could_tolerate = plan_.options.precision != Precision::tolerant &&
                                plan_.options.profile == Profile::private_results;
    throw Error(
        ErrorCode::no_parameters,
        fmt::format(
            "no parameters at {} bits of security reach p_error {:.3g} for {} values ({} bits)",
            plan_.options.security_bits, plan_.options.p_error, widest.values,
            bit_width(circuit_.values[widest.operand].interval)),
        layer_of(circuit_, widest),
        could_tolerate ? tolerant_way(plan_.options) + ", fewer bits, pruning, or a larger p_error"
                       : "fewer bits, pruning, a larger p_error or a larger tolerance");
  }

  // Of outputs: packed or not, and the shortest words whose rounding takes no more than the room.
  void choose_wire_form(const ParameterChoice& choice) {
    const std::vector<double> rooms = wire_rooms(choice);
    if (plan_.options.pack_outputs == PackOutputs::on)
      prepare_to_pack(*std::ranges::min_element(rooms));
    for (std::size_t r = 0; r < readers_.size(); ++r) {
      if (!readers_[r].is_lookup) choose_wire_form(readers_[r], rooms[r]);
    }
  }

  // Of outputs, the noise that results may take on their way: no more than what is left free, and a
  // sixteenth at most of the noise that is there or of what an exact output may have. Of lookups no
  // limit.
  std::vector<double> wire_rooms(const ParameterChoice& choice) const {
    constexpr double kMostShare = 1.0 / 16;
    const Scales scales = scales_by_policy(readers_, kappa_, is_aligned_);
    std::vector<double> rooms(readers_.size(), INFINITY);
    for (std::size_t r = 0; r < readers_.size(); ++r) {
      if (readers_[r].is_lookup) continue;
      const double sigma = noise_limit(readers_[r], scales, kappa_).sigma;
      const double exact_sigma = exact_limit(readers_[r], scales, kappa_);
      const double noise = choice.noise[r].value;
      rooms[r] =
          std::min(kMostShare * std::max(exact_sigma * exact_sigma, noise), sigma * sigma - noise);
    }
    return rooms;
  }

  // Packing may take half of the room, so that words are a bit longer at most.
  static constexpr double kMostPacking = 0.5;

  void choose_wire_form(Reader& reader, double room) const {
    const LweDimension dimension = plan_.big_dimension();
    reader.wire_bits = fewest_bits(dimension, room);
    const auto set = packing_key_set(plan_.key_sets);
    if (plan_.options.pack_outputs == PackOutputs::off || !set) return;
    const double packing = result_packing_variance(plan_.key_sets[*set].parameters).value;
    if (packing > kMostPacking * room) return;
    const int bits = fewest_bits(dimension, room - packing);
    const bool is_no_longer = wire_bytes(dimension, reader.count, bits, true) <=
                              wire_bytes(dimension, reader.count, reader.wire_bits, false);
    if (plan_.options.pack_outputs != PackOutputs::on && !is_no_longer) return;
    reader.packed = true;
    reader.wire_bits = bits;
  }

  static int fewest_bits(LweDimension dimension, double room) {
    int bits = kWordBits;
    while (bits > kLeastWireBits && wire_rounding_variance(dimension, bits - 1).value <= room)
      --bits;
    return bits;
  }

  // Adds a trace to the first key set that can have one, unless one has it.
  void prepare_to_pack(double room) {
    const Variance limit{kMostPacking * room};
    if (const auto set = packing_key_set(plan_.key_sets)) {
      const KeySet& packing = plan_.key_sets[*set];
      const Variance noise = result_packing_variance(packing.parameters);
      if (noise > limit) fail_to_pack(packing, noise, limit);
      return;
    }
    const auto can_pack = [](const KeySet& set) {
      return set.parameters.has_bootstrap() && set.parameters.glwe_dimension.value == 1;
    };
    const auto set = std::ranges::find_if(plan_.key_sets, can_pack);
    if (set == plan_.key_sets.end()) {
      const KeySet& first = plan_.key_sets.front();
      fail_to_pack(first.parameters.has_bootstrap()
                       ? fmt::format("key set {} has GLWE dimension {}, packing takes 1",
                                     first.name, first.parameters.glwe_dimension.value)
                       : "without a lookup there are no evaluation keys");
    }
    const std::optional<Gadget> trace = packing_trace(set->parameters, limit);
    if (!trace) fail_to_pack(*set, least_packing_variance(set->parameters), limit);
    set->parameters.trace = *trace;
    if (set->name != kCustomKeySet) set->name = key_set_name(set->parameters);
  }

  [[noreturn]] static void fail_to_pack(const KeySet& set, Variance noise, Variance limit) {
    const auto sigma = [](Variance v) { return 0.5 * std::log2(std::max(v.value, 0x1p-128)); };
    fail_to_pack(
        fmt::format("packing under key set {} has noise of 2^{:.1f} at least, and the "
                    "outputs leave room for 2^{:.1f}",
                    set.name, sigma(noise), sigma(limit)));
  }

  [[noreturn]] static void fail_to_pack(const std::string& reason) {
    throw Error(ErrorCode::not_supported, "results cannot be packed: " + reason, "pack_outputs",
                "pack_outputs \"auto\" or \"off\"");
  }

  // Of an output; 0 for a lookup.
  double rounding_of(const Reader& reader) const {
    return reader.is_lookup ? 0 : wire_noise(plan_.key_sets, reader.wire_bits, reader.packed).value;
  }

  // By group, now that the noise is known.
  std::map<ValueId, double> final_scales(const ParameterChoice& choice) const {
    std::map<ValueId, double> scales;
    for (std::size_t r = 0; r < readers_.size(); ++r) {
      const Reader& reader = readers_[r];
      const double guard = reader.policy == Precision::exact
                               ? 0
                               : kappa_ * std::sqrt(choice.noise[r].value + rounding_of(reader));
      shrink(scales, reader.group, largest_scale(placement(reader, is_aligned_), guard));
    }
    // Wide lookups read bits: their values lie a power of two of the torus apart.
    for (const Reader& reader : readers_) {
      double& scale = scales.at(reader.group);
      if (is_aligned_ && may_be_wide(reader)) scale = power_of_two_below(scale);
    }
    return scales;
  }

  void place_tensors(const ParameterChoice& choice, const std::vector<ValueId>& group_of) {
    const std::map<ValueId, double> scales = final_scales(choice);
    const std::vector<NoiseNorms> norms = noise_norms(circuit_, result_variances(choice));
    const double bootstrap = choice.key_sets[0].bootstrap.value;
    plan_.tensors.resize(circuit_.values.size());
    for (ValueId v = 0; v < circuit_.values.size(); ++v) {
      const Interval interval = circuit_.values[v].interval;
      const auto found = scales.find(group_of[v]);
      TensorPlan& tensor = plan_.tensors[v];
      // A value that nothing reads still needs some scale; it never influences a result.
      tensor.scale =
          found == scales.end() ? 0.5 / static_cast<double>(interval.size()) : found->second;
      tensor.center =
          0.5 * (static_cast<double>(interval.lower) + static_cast<double>(interval.upper));
      tensor.noise.value = norms[v].fresh * plan_.fresh.value + norms[v].bootstrap * bootstrap;
    }
  }

  // Of lookups that are wide, or bootstrapped by another than the first key set; in units of the
  // first set's bootstrap.
  std::map<std::size_t, double> result_variances(const ParameterChoice& choice) const {
    std::map<std::size_t, double> variances;
    for (std::size_t r = 0; r < readers_.size(); ++r) {
      const std::uint32_t digits = is_wide(choice, r) ? choice.wide[r].digit_count : 1;
      if (!readers_[r].is_lookup || (digits == 1 && choice.set_of[r] == 0)) continue;
      variances[readers_[r].node] =
          digits * choice.key_set_of(r).bootstrap.value / choice.key_sets[0].bootstrap.value;
    }
    return variances;
  }

  // The choice was made before it was known which lookups are wide, or with sources added up one by
  // one; then its noise is a bound.
  Variance noise_at(const ParameterChoice& choice, std::size_t index) const {
    const Reader& reader = readers_[index];
    const double rounding = rounding_of(reader);
    if (!is_aligned_ && choice.key_sets.size() == 1) return {choice.noise[index].value + rounding};
    const KeySet& set = choice.key_set_of(index);
    const TfheParameters& p = set.parameters;
    const double operand = plan_.tensors[reader.operand].noise.value;
    if (!reader.is_lookup) return {operand + rounding};
    if (is_wide(choice, index)) return wide_input_noise(p, choice.wide[index], operand);
    const std::uint64_t modulus = 2 * choice.rotation(index).table_size(p.polynomial_size);
    return {operand + set.keyswitch.value +
            modulus_switch_variance(p.small_dimension, modulus).value};
  }

  // Of half the torus, what lies beyond the value that is farthest from a step, or of the room what
  // lies on either side of the interval.
  double guard_band(const Reader& reader) const {
    const double scale = plan_.tensors[reader.operand].scale;
    if (is_odd(reader, is_aligned_)) return 0.5 / scale - (static_cast<double>(reader.reach) - 0.5);
    return 0.5 * (placement(reader, is_aligned_).room / scale - reader.width());
  }

  // Noise in units of one integer.
  double spread(const Reader& reader, Variance noise) const {
    return std::sqrt(noise.value) / plan_.tensors[reader.operand].scale;
  }

  void describe(const ParameterChoice& choice, std::size_t index) {
    const Reader& reader = readers_[index];
    double failure = 0;
    if (reader.is_lookup) {
      const LookupPlan lookup =
          is_wide(choice, index) ? wide_lookup(choice, index) : plain_lookup(choice, index);
      failure = failure_of(lookup);
      plan_.lookups[reader.node] = lookup;
    } else {
      const OutputPlan output = output_plan(choice, index);
      failure = failure_of(output);
      plan_.outputs[reader.node] = output;
    }
    log_success_ += reader.events() * std::log1p(-std::min(failure, 0.5));
  }

  // Flips of tolerant readers are no failures.
  template <class ReaderPlan>
  static double failure_of(const ReaderPlan& plan) {
    return plan.policy == Precision::exact ? std::max(plan.flip_probability, plan.wrap_probability)
                                           : plan.wrap_probability;
  }

  LookupPlan start_lookup(const ParameterChoice& choice, std::size_t index) const {
    const Reader& reader = readers_[index];
    return {.policy = reader.policy,
            .tolerance = reader.tolerance,
            .key_set = choice.set_of[index],
            .guard = guard_band(reader),
            .noise = noise_at(choice, index)};
  }

  // A bit or a digit read wrongly may give any entry.
  LookupPlan wide_lookup(const ParameterChoice& choice, std::size_t index) const {
    const Reader& reader = readers_[index];
    LookupPlan lookup = start_lookup(choice, index);
    lookup.wide = choice.wide[index];
    const double failure = wide_failure(choice.key_set_of(index).parameters, lookup.wide,
                                        plan_.tensors[reader.operand].noise.value);
    const double sigma = spread(reader, lookup.noise);
    lookup.step_probability = tail_probability(0.5 / sigma);
    lookup.far_probability =
        tail_probability(1.5 / sigma) + std::max(0.0, failure - lookup.step_probability);
    lookup.flip_probability = lookup.wrap_probability = failure;
    return lookup;
  }

  LookupPlan plain_lookup(const ParameterChoice& choice, std::size_t index) const {
    const Reader& reader = readers_[index];
    LookupPlan lookup = start_lookup(choice, index);
    lookup.rotation = choice.rotation(index);
    lookup.is_odd = is_odd(reader, is_aligned_);
    const std::size_t table_size =
        lookup.rotation.table_size(choice.key_set_of(index).parameters.polynomial_size);
    const std::vector<double> shifts = border_shifts(circuit_.values[reader.operand].interval,
                                                     plan_.tensors[reader.operand], table_size);
    const double sigma = spread(reader, lookup.noise);
    lookup.step_probability = cross_probability(0.5, shifts, sigma);
    lookup.far_probability = cross_probability(1.5, shifts, sigma);
    lookup.flip_probability =
        mean_flip_probability(std::get<Lut>(circuit_.nodes[reader.node].op), sigma, shifts);
    lookup.wrap_probability = 0.5 * tail_probability(lookup.guard / sigma);
    return lookup;
  }

  OutputPlan output_plan(const ParameterChoice& choice, std::size_t index) const {
    const Reader& reader = readers_[index];
    const Variance noise = noise_at(choice, index);
    const double sigma = spread(reader, noise);
    const double guard = guard_band(reader);
    return {.policy = reader.policy,
            .tolerance = reader.tolerance,
            .wire_bits = reader.wire_bits,
            .packed = reader.packed,
            .guard = guard,
            .noise = noise,
            .flip_probability = tail_probability(0.5 / sigma),
            .wrap_probability = 0.5 * tail_probability(guard / sigma)};
  }

  const Circuit& circuit_;
  const ParameterSearch& search_;
  const KeySetSplit& split_;
  std::vector<Reader> readers_;
  double kappa_ = 0;
  double log_success_ = 0;
  bool is_aligned_ = false;  // for wide lookups
  Plan plan_;
};

}  // namespace

BootstrapCount count_bootstraps(const Circuit& circuit, const Plan& plan) {
  BootstrapCount total;
  for (const auto& [node, lookup] : plan.lookups) {
    const Lut& lut = std::get<Lut>(circuit.nodes[node].op);
    const std::int64_t values = number_of_elements(circuit.values[lut.operand].shape);
    const auto tables = static_cast<std::int64_t>(lut.tables.size());
    const std::int64_t wide_rotations =
        lookup.wide.rotations() + tables * std::int64_t{lookup.wide.digit_count};
    const auto turns = static_cast<std::int64_t>(lookup.rotation.turns(lut.tables.size()));
    const bool is_wide = lookup.wide.index_bits != 0;
    total.rotations += values * (is_wide ? wide_rotations : turns);
    total.keyswitches += values * (is_wide ? wide_rotations : 1);
  }
  return total;
}

Plan make_plan(const Circuit& circuit, const PlanOptions& options) {
  verify(circuit);
  const ParameterSearch search = [&](const ParameterRequest& request, std::string* tightest) {
    return choose_key_set(request, options.key_set_source, tightest);
  };
  const KeySetSplit split = [&](const ParameterRequest& request, const ParameterChoice& one,
                                const ParameterChoice& rival) {
    return split_key_set(request, one, rival, options.key_set_source);
  };
  return Planner(circuit, options, search, split).run();
}

Plan make_plan(const Circuit& circuit, const PlanOptions& options, const ParameterSearch& search) {
  verify(circuit);
  return Planner(circuit, options, search, {}).run();
}

}  // namespace torusml
