#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>

#include "circuit/norms.h"
#include "circuit/step.h"
#include "parameters/noise.h"
#include "parameters/split.h"
#include "parameters/wide_lookups.h"
#include "parameters/wire_noise.h"
#include "plan/options.h"
#include "plan/plan.h"
#include "plan/read_probabilities.h"
#include "tfhe/wire_words.h"
#include "torusml/error.h"

namespace torusml {
namespace {

constexpr int kMaxTableBits = 16;

// Values that linear maps tie to one torus scale.
class ScaleGroups {
 public:
  explicit ScaleGroups(std::size_t values) : parent_(values) {
    std::iota(parent_.begin(), parent_.end(), ValueId{0});
  }

  ValueId find(ValueId value) {
    while (parent_[value] != value) value = parent_[value] = parent_[parent_[value]];
    return value;
  }
  void join(ValueId a, ValueId b) { parent_[find(a)] = find(b); }

 private:
  std::vector<ValueId> parent_;
};

// A lookup or an output: where a phase is read, so where noise matters.
struct Reader {
  std::size_t node = 0;
  ValueId operand = 0;
  ValueId group = 0;
  bool is_lookup = false;
  std::uint64_t values = 1;    // of the interval
  std::uint64_t reach = 0;     // of an odd lookup, most values on either side of its steps
  std::uint64_t odd_half = 0;  // boxes of either half torus before an odd lookup; 0: it is not odd
  std::uint64_t count = 0;     // numbers read for one sample
  std::uint64_t tables = 0;    // of each number; 0 for an output
  Precision policy = Precision::exact;
  double tolerance = 0;  // of a tolerant one
  int wire_bits = 64;    // of an output

  double width() const { return static_cast<double>(values - 1); }
  // Every table read, and every output value, may fail.
  double events() const {
    return static_cast<double>(count) * static_cast<double>(is_lookup ? tables : 1);
  }
};

// How an interval lies on the torus: the part that it may fill, 1/2 before a lookup that is not
// odd, and its values, before an odd lookup those of an interval that is as long on both sides.
struct Placement {
  double room = 1;
  std::uint64_t values = 1;

  double width() const { return static_cast<double>(values - 1); }
};

// Largest scale at which the interval and its guard bands of kappa * sigma (at least half a box)
// fit.
double largest_scale(const Placement& placement, double guard_torus) {
  const double boxes = placement.room / static_cast<double>(placement.values);
  if (placement.values == 1) return boxes;
  return std::min(boxes, (placement.room - 2 * guard_torus) / placement.width());
}

// Boxes of a half torus for steps that reach so far to either side in an interval of so many
// values; 0 where that saves less than a quarter. Widened to a power of two where an eighth is
// enough for it: then borders lie on entries.
std::uint64_t odd_half(std::uint64_t reach, std::uint64_t values) {
  const std::uint64_t power = std::bit_ceil(reach);
  const std::uint64_t half = 8 * reach >= 7 * power ? power : reach;
  return 4 * half < 3 * values ? half : 0;
}

// Borders between values lie on entries of a table where one integer is 2^-m of the torus and takes
// an even number of entries or a multiple of them; otherwise up to half an entry off. Centres are
// integers or halves of them.
bool borders_meet_entries(double scale) {
  int exponent = 0;
  return std::frexp(scale, &exponent) == 0.5;
}

// Two key sets in place of the best one for a request, if they are worth it beside a rival.
using KeySetSplit = std::function<std::optional<ParameterChoice>(
    const ParameterRequest& request, const ParameterChoice& one, const ParameterChoice& rival)>;

class Planner {
 public:
  Planner(const Circuit& circuit, const PlanOptions& options, const ParameterSearch& search,
          const KeySetSplit& split)
      : circuit_(circuit), search_(search), split_(split), groups_(circuit.values.size()) {
    check_options(options);
    plan_.circuit_name = circuit.name;
    plan_.options = options;
  }

  Plan run() {
    collect();
    plan_.options.p_error = resolve_p_error(plan_.options, events());
    if (plan_.options.profile == Profile::shared_results &&
        plan_.options.p_error > kDefaultShared) {
      throw Error(
          ErrorCode::profile_forbids,
          fmt::format(
              "profile shared_results needs a p_error of at most 2^-128, {:.3g} was asked for",
              plan_.options.p_error),
          "",
          "no p_error of your own, or profile private_results if only the key's owner sees "
          "results");
    }
    kappa_ = kappa(plan_.options.p_error);
    set_tolerances();
    for (const Reader& reader : readers_) check_width(reader);
    const ParameterChoice choice = choose();
    plan_.key_sets = choice.key_sets;
    plan_.fresh = choice.fresh;
    plan_.cost_ms_per_core = choice.cost_ms_per_core;
    plan_.lookup_count = lookup_count(circuit_);
    choose_wire_bits(choice);
    place_tensors(choice);
    for (std::size_t r = 0; r < readers_.size(); ++r) describe(readers_[r], choice, r);
    plan_.sample_p_error = -std::expm1(log_success_);
    return std::move(plan_);
  }

 private:
  const TensorType& type(ValueId value) const { return circuit_.values[value]; }

  void collect() {
    for (const Node& node : circuit_.nodes) {
      if (const auto* linear = std::get_if<Linear>(&node.op)) {
        for (const LinearTerm& term : linear->terms) groups_.join(term.operand, linear->result);
      }
    }
    for (std::size_t i = 0; i < circuit_.nodes.size(); ++i) {
      const Node& node = circuit_.nodes[i];
      if (const auto* lut = std::get_if<Lut>(&node.op))
        add_reader(i, lut->operand, lut->tables.size());
      else if (const auto* output = std::get_if<Output>(&node.op))
        add_reader(i, output->operand, 0);
    }
    check_layer_names();
  }

  void check_layer_names() const {
    for (const auto& [name, layer] : plan_.options.layers) {
      const auto has_name = [&](const Reader& reader) {
        return circuit_.nodes[reader.node].name == name;
      };
      if (std::ranges::any_of(readers_, has_name)) continue;
      std::vector<std::string> known;
      for (const Reader& reader : readers_) known.push_back(circuit_.nodes[reader.node].name);
      throw Error(ErrorCode::unknown_option, fmt::format("the circuit has no layer '{}'", name),
                  "layers", fmt::format("one of {}", fmt::join(known, ", ")));
    }
  }

  void add_reader(std::size_t node, ValueId operand, std::size_t tables) {
    Reader reader;
    reader.node = node;
    reader.operand = operand;
    reader.group = groups_.find(operand);
    reader.is_lookup = tables != 0;
    reader.values = type(operand).interval.size();
    reader.count = static_cast<std::uint64_t>(number_of_elements(type(operand).shape));
    reader.tables = tables;
    set_policy(reader, circuit_.nodes[node].name);
    if (reader.is_lookup && reader.policy == Precision::exact) {
      reader.reach = step_reach(std::get<Lut>(circuit_.nodes[node].op)).value_or(reader.values);
      reader.odd_half = odd_half(reader.reach, reader.values);
    }
    readers_.push_back(reader);
  }

  void set_policy(Reader& reader, const std::string& name) const {
    const auto own = plan_.options.layers.find(name);
    const bool has_own = own != plan_.options.layers.end();
    reader.policy = has_own ? own->second.policy : plan_.options.precision;
    if (reader.policy == Precision::automatic) {
      throw Error(ErrorCode::invalid_argument, "precision \"auto\" is for compile() to decide",
                  layer(reader), "\"exact\" or \"tolerant\"");
    }
    if (reader.policy == Precision::rounded) reader.policy = Precision::exact;
    if (has_own) reader.tolerance = own->second.tolerance;
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

  double events() const {
    double total = 0;
    for (const Reader& reader : readers_) total += reader.events();
    return total;
  }

  std::string layer(const Reader& reader) const {
    return layer_text(circuit_.nodes[reader.node].name);
  }

  void check_width(const Reader& reader) const {
    if (!reader.is_lookup) return;
    const int bits = static_cast<int>(std::ceil(std::log2(static_cast<double>(reader.values))));
    const Interval interval = type(reader.operand).interval;
    const std::string what =
        fmt::format("the accumulator in [{}, {}] has {} values and needs {} bits at a table",
                    interval.lower, interval.upper, reader.values, bits);
    if (bits > kMaxTableBits) {
      throw Error(ErrorCode::accumulator_too_wide,
                  fmt::format("{}; at most {} are possible", what, kMaxTableBits), layer(reader),
                  "fewer bits for weights and activations, or pruning");
    }
    if (reader.policy == Precision::exact && bits > plan_.options.max_exact_bits) {
      const bool may_tolerate = plan_.options.profile == Profile::private_results;
      throw Error(
          ErrorCode::accumulator_too_wide,
          fmt::format("{}; precision \"exact\" supports {}", what, plan_.options.max_exact_bits),
          layer(reader),
          may_tolerate ? tolerant_way() + ", fewer bits for weights and activations, or pruning"
                       : "fewer bits for weights and activations, or pruning");
    }
  }

  std::string tolerant_way() const {
    return plan_.options.precision == Precision::rounded ? "rounding by method approximate"
                                                         : "precision=\"tolerant\"";
  }

  // Whether a lookup is exact and has enough values to be a wide one.
  static bool may_be_wide(const Reader& reader) {
    return reader.is_lookup && reader.policy == Precision::exact &&
           reader.values > std::uint64_t{1} << (kLeastWideBits - 1);
  }

  // What may be a wide lookup is not odd: bits are read of the half torus.
  static bool is_odd(const Reader& reader, bool may_use_wide) {
    return reader.odd_half != 0 && !(may_use_wide && may_be_wide(reader));
  }

  static Placement placement(const Reader& reader, bool may_use_wide) {
    if (!reader.is_lookup) return {1, reader.values};
    if (is_odd(reader, may_use_wide)) return {1, 2 * reader.odd_half};
    return {0.5, reader.values};
  }

  // Wide lookups read bits: their values lie a power of two of the torus apart.
  void align(std::map<ValueId, double>& scales) const {
    for (const Reader& reader : readers_) {
      double& scale = scales.at(reader.group);
      if (may_be_wide(reader)) scale = power_of_two_below(scale);
    }
  }

  // Of the differences between a table's entries and its least.
  std::uint32_t result_bits(const Reader& reader) const {
    std::uint32_t bits = 1;
    for (const Table& table : std::get<Lut>(circuit_.nodes[reader.node].op).tables) {
      const auto [least, most] = std::ranges::minmax(table.entries);
      const std::uint64_t difference =
          static_cast<std::uint64_t>(most) - static_cast<std::uint64_t>(least);
      bits = std::max(bits, static_cast<std::uint32_t>(std::bit_width(difference)));
    }
    return bits;
  }

  // Results of wide lookups are sums of digits; before the choice of at most so many.
  std::map<std::size_t, double> most_digits() const {
    std::map<std::size_t, double> digits;
    for (const Reader& reader : readers_) {
      if (!may_be_wide(reader)) continue;
      double& most = digits[reader.node];
      for (const WideShape& shape :
           wide_shapes({.index_bits = 1, .result_bits = result_bits(reader)}))
        most = std::max<double>(most, shape.digit_count);
    }
    return digits;
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

  // Torus scales before the noise is known.
  struct Scales {
    std::map<ValueId, double> tolerant;  // by group: guard bands as wide as tolerances allow
    // By node: its own guard bands half a box, those of the others in its group as wide as
    // tolerances allow.
    std::map<std::size_t, double> exact;
  };

  Scales scales_by_policy(bool may_use_wide) const {
    std::map<ValueId, std::vector<const Reader*>> groups;
    for (const Reader& reader : readers_) groups[reader.group].push_back(&reader);
    const auto tolerant_scale = [&](const Reader& reader) {
      const Placement place = placement(reader, may_use_wide);
      const double sigma = reader.tolerance * place.room / (1 + 2 * kappa_ * reader.tolerance);
      return largest_scale(place, kappa_ * sigma);
    };
    Scales scales;
    for (const auto& [group, readers] : groups) {
      const bool is_aligned = may_use_wide && std::ranges::any_of(readers, [](const Reader* r) {
                                return may_be_wide(*r);
                              });
      for (const Reader* reader : readers) {
        shrink(scales.tolerant, group, tolerant_scale(*reader));
        double exact = largest_scale(placement(*reader, may_use_wide), 0);
        for (const Reader* other : readers)
          if (other != reader) exact = std::min(exact, tolerant_scale(*other));
        scales.exact[reader->node] = is_aligned ? power_of_two_below(exact) : exact;
      }
    }
    return scales;
  }

  static double power_of_two_below(double scale) { return std::exp2(std::floor(std::log2(scale))); }

  // exact: kappa sigma within half a box. tolerant: sigma within its tolerance * interval, where
  // the interval is what guard bands of kappa sigma leave of the room; or the exact limit where
  // that is weaker.
  struct NoiseLimit {
    double sigma = 0;
    bool is_exact = true;
  };

  NoiseLimit noise_limit(const Reader& reader, const Scales& scales) const {
    const double exact = scales.exact.at(reader.node) / (2 * kappa_);
    const double tolerant = reader.tolerance * reader.width() * scales.tolerant.at(reader.group);
    if (reader.policy == Precision::exact || exact >= tolerant) return {exact, true};
    return {tolerant, false};
  }

  ParameterRequest request(bool may_use_wide) const {
    const Scales scales = scales_by_policy(may_use_wide);
    ParameterRequest request;
    request.security_bits = plan_.options.security_bits;
    request.cost_table = plan_.options.cost_table;
    request.linear_multiplications = static_cast<double>(linear_multiplications(circuit_));
    const std::vector<NoiseNorms> norms =
        may_use_wide ? noise_norms(circuit_, most_digits()) : noise_norms(circuit_);
    std::map<std::size_t, std::size_t> reader_of;  // by node
    for (std::size_t r = 0; r < readers_.size(); ++r) reader_of[readers_[r].node] = r;
    for (const Reader& reader : readers_) {
      NoiseConstraint constraint;
      constraint.name = circuit_.nodes[reader.node].name;
      constraint.is_lookup = reader.is_lookup;
      constraint.fresh_norm2 = norms[reader.operand].fresh;
      constraint.bootstrap_norm2 = norms[reader.operand].bootstrap;
      for (const auto& [node, norm2] : norms[reader.operand].by_lookup)
        constraint.sources.push_back({reader_of.at(node), norm2});
      if (reader.is_lookup) {
        constraint.lookup_count = reader.count;
        constraint.tables = reader.tables;
      }
      const double exact_scale = scales.exact.at(reader.node);
      const NoiseLimit limit = noise_limit(reader, scales);
      constraint.limit_sigma = limit.sigma;
      if (limit.is_exact) {
        constraint.values = is_odd(reader, may_use_wide) ? reader.odd_half : reader.values;
        constraint.table_step_weight =
            reader.is_lookup && !borders_meet_entries(exact_scale) ? 1 / kappa_ : 0;
      }
      if (may_use_wide && may_be_wide(reader)) allow_wide(reader, exact_scale, constraint);
      request.constraints.push_back(constraint);
    }
    return request;
  }

  void allow_wide(const Reader& reader, double box, NoiseConstraint& constraint) const {
    const auto index_bits = static_cast<std::uint32_t>(-std::ilogb(box) - 1);
    const std::uint32_t bits = result_bits(reader);
    if (index_bits > kMostIndexBits || bits > kMostResultBits) return;
    constraint.index_bits = index_bits;
    constraint.result_bits = bits;
  }

  static void shrink(std::map<ValueId, double>& scales, ValueId group, double scale) {
    const auto [found, is_new] = scales.emplace(group, scale);
    if (!is_new) found->second = std::min(found->second, scale);
  }

  [[noreturn]] void fail_without_parameters(const std::string& tightest) const {
    const Reader* widest = &readers_.front();
    for (const Reader& reader : readers_) {
      const bool is_named = circuit_.nodes[reader.node].name == tightest;
      const bool widest_is_named = circuit_.nodes[widest->node].name == tightest;
      if (is_named > widest_is_named ||
          (is_named == widest_is_named && reader.values > widest->values))
        widest = &reader;
    }
    const bool could_tolerate = plan_.options.precision != Precision::tolerant &&
                                plan_.options.profile == Profile::private_results;
    throw Error(
        ErrorCode::no_parameters,
        fmt::format(
            "no parameters at {} bits of security reach p_error {:.3g} for {} values ({} bits)",
            plan_.options.security_bits, plan_.options.p_error, widest->values,
            bit_width(type(widest->operand).interval)),
        layer(*widest),
        could_tolerate ? tolerant_way() + ", fewer bits, pruning, or a larger p_error"
                       : "fewer bits, pruning, a larger p_error or a larger tolerance");
  }

  // Of outputs: the shortest words whose rounding takes no more than the noise left free, and is a
  // sixteenth at most of the noise that is there or of what an exact output may have.
  void choose_wire_bits(const ParameterChoice& choice) {
    constexpr double kMostShare = 1.0 / 16;
    const Scales scales = scales_by_policy(is_aligned_);
    const LweDimension dimension = choice.key_sets[0].parameters.big_dimension();
    for (std::size_t r = 0; r < readers_.size(); ++r) {
      if (readers_[r].is_lookup) continue;
      const double sigma = noise_limit(readers_[r], scales).sigma;
      const double exact_sigma = scales.exact.at(readers_[r].node) / (2 * kappa_);
      const double noise = choice.noise[r].value;
      const double room =
          std::min(kMostShare * std::max(exact_sigma * exact_sigma, noise), sigma * sigma - noise);
      int& bits = readers_[r].wire_bits;
      while (bits > kLeastWireBits && wire_rounding_variance(dimension, bits - 1).value <= room)
        --bits;
    }
  }

  // Of an output; 0 for a lookup.
  static double rounding_of(const Reader& reader, const ParameterChoice& choice) {
    return wire_rounding_variance(choice.key_sets[0].parameters.big_dimension(), reader.wire_bits)
        .value;
  }

  void place_tensors(const ParameterChoice& choice) {
    std::map<ValueId, double> scales;
    for (std::size_t r = 0; r < readers_.size(); ++r) {
      const double guard =
          readers_[r].policy == Precision::exact
              ? 0
              : kappa_ * std::sqrt(choice.noise[r].value + rounding_of(readers_[r], choice));
      shrink(scales, readers_[r].group, largest_scale(placement(readers_[r], is_aligned_), guard));
    }
    if (is_aligned_) align(scales);
    const std::vector<NoiseNorms> norms = noise_norms(circuit_, result_variances(choice));
    const double bootstrap = choice.key_sets[0].bootstrap.value;
    plan_.tensors.resize(circuit_.values.size());
    for (ValueId v = 0; v < circuit_.values.size(); ++v) {
      const auto found = scales.find(groups_.find(v));
      TensorPlan& tensor = plan_.tensors[v];
      // A value that nothing reads still needs some scale; it never influences a result.
      tensor.scale = found == scales.end() ? 0.5 / static_cast<double>(type(v).interval.size())
                                           : found->second;
      tensor.center = 0.5 * (static_cast<double>(type(v).interval.lower) +
                             static_cast<double>(type(v).interval.upper));
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

  static bool is_wide(const ParameterChoice& choice, std::size_t index) {
    return !choice.wide.empty() && choice.wide[index].index_bits != 0;
  }

  // The choice was made before it was known which lookups are wide, or with sources added up one by
  // one; then its noise is a bound.
  Variance noise_at(const Reader& reader, const ParameterChoice& choice, std::size_t index) const {
    const double rounding = rounding_of(reader, choice);
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
  double guard_band(const Reader& reader, double scale) const {
    if (is_odd(reader, is_aligned_)) return 0.5 / scale - (static_cast<double>(reader.reach) - 0.5);
    return 0.5 * (placement(reader, is_aligned_).room / scale - reader.width());
  }

  void describe(const Reader& reader, const ParameterChoice& choice, std::size_t index) {
    const double scale = plan_.tensors[reader.operand].scale;
    const Variance noise = noise_at(reader, choice, index);
    const double sigma = std::sqrt(noise.value);
    const double guard = guard_band(reader, scale);
    const double spread = sigma / scale;  // noise in units of one integer
    double wrap = 0.5 * tail_probability(guard / spread);
    double flip = 0;
    const std::size_t set = choice.set_of[index];
    const TfheParameters& parameters = choice.key_sets[set].parameters;
    if (is_wide(choice, index)) {
      // A bit or a digit read wrongly may give any entry.
      const WideShape& shape = choice.wide[index];
      flip = wrap = wide_failure(parameters, shape, plan_.tensors[reader.operand].noise.value);
      const double step = tail_probability(0.5 / spread);
      plan_.lookups[reader.node] = {
          .policy = reader.policy,
          .tolerance = reader.tolerance,
          .key_set = set,
          .wide = shape,
          .guard = guard,
          .noise = noise,
          .step_probability = step,
          .far_probability = tail_probability(1.5 / spread) + std::max(0.0, flip - step),
          .flip_probability = flip,
          .wrap_probability = wrap};
    } else if (reader.is_lookup) {
      const RotationShape rotation = choice.rotation(index);
      const std::size_t table_size = rotation.table_size(parameters.polynomial_size);
      const std::vector<double> shifts =
          border_shifts(type(reader.operand).interval, plan_.tensors[reader.operand], table_size);
      const double step = cross_probability(0.5, shifts, spread);
      const double far = cross_probability(1.5, shifts, spread);
      flip = mean_flip_probability(std::get<Lut>(circuit_.nodes[reader.node].op), spread, shifts);
      plan_.lookups[reader.node] = {.policy = reader.policy,
                                    .tolerance = reader.tolerance,
                                    .key_set = set,
                                    .rotation = rotation,
                                    .is_odd = is_odd(reader, is_aligned_),
                                    .guard = guard,
                                    .noise = noise,
                                    .step_probability = step,
                                    .far_probability = far,
                                    .flip_probability = flip,
                                    .wrap_probability = wrap};
    } else {
      flip = tail_probability(0.5 / spread);
      plan_.outputs[reader.node] = {.policy = reader.policy,
                                    .tolerance = reader.tolerance,
                                    .wire_bits = reader.wire_bits,
                                    .guard = guard,
                                    .noise = noise,
                                    .flip_probability = flip,
                                    .wrap_probability = wrap};
    }
    const double failure = reader.policy == Precision::exact ? std::max(flip, wrap) : wrap;
    log_success_ += reader.events() * std::log1p(-std::min(failure, 0.5));
  }

  const Circuit& circuit_;
  const ParameterSearch& search_;
  const KeySetSplit& split_;
  ScaleGroups groups_;
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
