#include <fmt/format.h>

#include <bit>
#include <cmath>

#include "circuit/scanner.h"
#include "circuit/text.h"
#include "plan/plan.h"
#include "tfhe/validate.h"
#include "tfhe/wire_words.h"
#include "torusml/error.h"

namespace torusml {
namespace {

// Shortest text that reads back to the same double, and what people want to see.
std::string power(double value) { return fmt::format("{} (2^{:.2f})", value, std::log2(value)); }
std::string sigma(Variance variance) {
  return variance.value == 0
             ? "0"
             : fmt::format("{} (sigma 2^{:.2f})", variance.value, 0.5 * std::log2(variance.value));
}
std::string probability(double value) {
  if (value == 0) return "0";
  return value >= 1e-4 ? fmt::format("{} ({:.2g} %)", value, 100 * value)
                       : fmt::format("{} (2^{:.1f})", value, std::log2(value));
}

std::string policy_text(Precision policy, double tolerance) {
  return to_string(policy) + (tolerance == 0 ? "" : " tolerance " + power(tolerance));
}

std::string wide(const WideShape& shape) {
  if (shape.index_bits == 0) return "";
  return fmt::format(" wide index_bits {} bits_per_rotation {} digit_bits {} digits {}",
                     shape.index_bits, shape.bits_per_rotation, shape.digit_bits,
                     shape.digit_count);
}

std::string rotation(const RotationShape& shape) {
  std::string text = fmt::format("h {}", shape.extension_log2);
  if (shape.tables_log2 != 0) text += fmt::format(" tables_log2 {}", shape.tables_log2);
  return text;
}

std::string key_set_text(const KeySet& set) {
  const TfheParameters& p = set.parameters;
  std::string text = fmt::format("  key_set {}\n", quote(set.name));
  text += fmt::format(
      "  parameters n {} k {} N {} bootstrap {}x{} keyswitch {}x{} grouping {} accumulator {} "
      "small {} glwe {} circuit_bootstrap {}x{} trace {}x{}\n",
      p.small_dimension.value, p.glwe_dimension.value, p.polynomial_size.value,
      p.bootstrap.level_count, p.bootstrap.base_log2, p.keyswitch.level_count,
      p.keyswitch.base_log2, p.grouping_factor, p.accumulator_bits, sigma(p.small_variance),
      sigma(p.glwe_variance), p.circuit_bootstrap.level_count, p.circuit_bootstrap.base_log2,
      p.trace.level_count, p.trace.base_log2);
  return text + fmt::format("  noise bootstrap {} keyswitch {}\n", sigma(set.bootstrap),
                            sigma(set.keyswitch));
}

std::string header(const Plan& plan, const Circuit& circuit) {
  const PlanOptions& o = plan.options;
  std::string text = fmt::format("plan {}\n", quote(plan.circuit_name));
  text += fmt::format(
      "  options precision {} profile {} p_error {} global_p_error {} tolerance {} security {} "
      "max_exact_bits {} parameters {} max_key_sets {}\n",
      to_string(o.precision), to_string(o.profile), probability(o.p_error), o.global_p_error,
      power(o.tolerance), o.security_bits, o.max_exact_bits, to_string(o.key_set_source),
      o.max_key_sets);
  for (const KeySet& set : plan.key_sets) text += key_set_text(set);
  text += fmt::format("  fresh {}\n", sigma(plan.fresh));
  const BootstrapCount count = count_bootstraps(circuit, plan);
  text += fmt::format(
      "  sample lookups {} ({} rotations, {} keyswitches) cost_ms_per_core {} p_error {}\n",
      plan.lookup_count, count.rotations, count.keyswitches, plan.cost_ms_per_core,
      probability(plan.sample_p_error));
  if (const auto& one = plan.one_key_set) {
    text += fmt::format("  one_key_set {} cost_ms_per_core {} memory_bytes {} wire_bytes {}\n",
                        quote(one->name), one->cost_ms_per_core, one->key_bytes.memory,
                        one->key_bytes.wire);
  }
  return text;
}

class PlanParser {
 public:
  explicit PlanParser(const std::string& text) : scan_(text) {}

  Plan run() {
    scan_.take("plan");
    plan_.circuit_name = scan_.take_string();
    options();
    scan_.take("key_set");
    do {
      key_set();
    } while (scan_.try_take("key_set"));
    sample();
    while (!scan_.try_take("end")) {
      if (scan_.try_take("lookup"))
        lookup();
      else if (scan_.try_take("output"))
        output();
      else
        tensor();
    }
    if (!scan_.at_end()) scan_.fail("text follows the end");
    return std::move(plan_);
  }

 private:
  double number(const char* name) {
    scan_.take(name);
    const double value = scan_.take_number();
    scan_.skip_remark();
    return value;
  }
  Variance variance(const char* name) {
    const double value = number(name);
    if (value < 0) scan_.fail("a variance is negative");
    return {value};
  }
  template <class Integer>
  Integer integer(const char* name, std::int64_t limit) {
    scan_.take(name);
    const std::int64_t value = scan_.take_integer();
    if (value < 0 || value > limit) scan_.fail(fmt::format("{} is out of range", name));
    return static_cast<Integer>(value);
  }
  Gadget gadget(const char* name) {
    Gadget result;
    result.level_count = integer<std::uint32_t>(name, 64);
    if (!scan_.try_take_symbol("x")) scan_.fail("expected levels x base");
    const std::int64_t base_log2 = scan_.take_integer();
    if (base_log2 < 0 || base_log2 > 64) scan_.fail("a base is out of range");
    result.base_log2 = static_cast<std::uint32_t>(base_log2);
    return result;
  }

  void options() {
    PlanOptions& o = plan_.options;
    scan_.take("options");
    scan_.take("precision");
    o.precision = precision();
    scan_.take("profile");
    o.profile = profile();
    o.p_error = number("p_error");
    o.global_p_error = number("global_p_error");
    o.tolerance = number("tolerance");
    o.security_bits = integer<int>("security", 1024);
    o.max_exact_bits = integer<int>("max_exact_bits", 64);
    scan_.take("parameters");
    o.key_set_source = key_set_source();
    o.max_key_sets = integer<int>("max_key_sets", kMostKeySets);
  }

  // After its first word.
  void key_set() {
    if (plan_.key_sets.size() == std::size_t{kMostKeySets})
      scan_.fail("a plan has two key sets at most");
    KeySet& set = plan_.key_sets.emplace_back();
    TfheParameters& p = set.parameters;
    set.name = scan_.take_string();
    scan_.take("parameters");
    p.small_dimension.value = integer<std::uint32_t>("n", 1 << 20);
    p.glwe_dimension.value = integer<std::uint32_t>("k", 64);
    p.polynomial_size.value = integer<std::uint32_t>("N", 1 << 20);
    p.bootstrap = gadget("bootstrap");
    p.keyswitch = gadget("keyswitch");
    p.grouping_factor = integer<std::uint32_t>("grouping", 2);
    p.accumulator_bits = integer<std::uint32_t>("accumulator", 64);
    p.small_variance = variance("small");
    p.glwe_variance = variance("glwe");
    p.circuit_bootstrap = gadget("circuit_bootstrap");
    p.trace = gadget("trace");
    if (p.accumulator_bits != 32 && p.accumulator_bits != 64)
      scan_.fail(fmt::format("accumulators of {} bits; 32 and 64 exist", p.accumulator_bits));
    if (const std::string fault = gadget_fault(p); !fault.empty()) scan_.fail(fault);
    scan_.take("noise");
    set.bootstrap = variance("bootstrap");
    set.keyswitch = variance("keyswitch");
    if (!shares_big_key(p, plan_.key_sets.front().parameters))
      scan_.fail("the key sets have different big keys");
  }

  void sample() {
    plan_.fresh = variance("fresh");
    scan_.take("sample");
    plan_.lookup_count = integer<std::int64_t>("lookups", std::int64_t{1} << 40);
    scan_.skip_remark();
    plan_.cost_ms_per_core = number("cost_ms_per_core");
    plan_.sample_p_error = number("p_error");
    if (!scan_.try_take("one_key_set")) return;
    OneKeySet one;
    one.name = scan_.take_string();
    one.cost_ms_per_core = number("cost_ms_per_core");
    one.key_bytes.memory = number("memory_bytes");
    one.key_bytes.wire = number("wire_bytes");
    plan_.one_key_set = one;
  }

  void tensor() {
    scan_.take("%");
    if (scan_.take_integer() != static_cast<std::int64_t>(plan_.tensors.size()))
      scan_.fail("tensors are not in order");
    TensorPlan tensor;
    tensor.scale = number("scale");
    tensor.center = number("center");
    tensor.noise = variance("noise");
    if (!(tensor.scale > 0 && tensor.scale <= 1)) scan_.fail("a scale lies outside (0, 1]");
    plan_.tensors.push_back(tensor);
  }

  template <class Reader>
  void policy(Reader& reader) {
    scan_.take_string();  // the layer's name, for people
    reader.policy = precision();
    if (reader.policy == Precision::automatic) scan_.fail("a layer has no policy of its own");
    if (!scan_.try_take("tolerance")) return;
    reader.tolerance = scan_.take_number();
    scan_.skip_remark();
    if (!(reader.tolerance > 0 && reader.tolerance <= 0.25))
      scan_.fail("a tolerance is out of range");
  }

  Precision precision() {
    const std::string word = scan_.take_name();
    for (const Precision known :
         {Precision::exact, Precision::tolerant, Precision::rounded, Precision::automatic})
      if (word == to_string(known)) return known;
    scan_.fail("unknown precision");
  }

  Profile profile() {
    const std::string word = scan_.take_name();
    if (word != to_string(Profile::private_results) && word != to_string(Profile::shared_results)) {
      scan_.fail("unknown profile");
    }
    return parse_profile(word);
  }

  KeySetSource key_set_source() {
    const std::string word = scan_.take_name();
    if (word != to_string(KeySetSource::catalogue) && word != to_string(KeySetSource::custom))
      scan_.fail("unknown source of parameters");
    return parse_key_set_source(word);
  }

  void lookup() {
    const auto node = integer<std::size_t>("node", std::int64_t{1} << 24);
    LookupPlan lookup;
    policy(lookup);
    if (plan_.key_sets.size() > 1) lookup.key_set = integer<std::size_t>("set", kMostKeySets - 1);
    lookup.rotation = rotation_shape(plan_.key_set_of(lookup).parameters.polynomial_size);
    if (scan_.try_take("wide"))
      lookup.wide = wide_shape();
    else
      lookup.is_odd = scan_.try_take("odd");
    lookup.guard = number("guard");
    lookup.noise = variance("noise");
    lookup.step_probability = number("step");
    lookup.far_probability = number("far");
    lookup.flip_probability = number("flip");
    lookup.wrap_probability = number("wrap");
    plan_.lookups[node] = lookup;
  }

  RotationShape rotation_shape(PolynomialSize size) {
    RotationShape shape;
    shape.extension_log2 = integer<std::uint32_t>("h", 16);
    if (!scan_.try_take("tables_log2")) return shape;
    const std::int64_t tables_log2 = scan_.take_integer();
    const auto most = std::bit_width(size.value) - 2;
    if (tables_log2 < 1 || tables_log2 > most || shape.extension_log2 != 0)
      scan_.fail("a rotation has no such shape");
    shape.tables_log2 = static_cast<std::uint32_t>(tables_log2);
    return shape;
  }

  WideShape wide_shape() {
    WideShape wide;
    wide.index_bits = integer<std::uint32_t>("index_bits", kMostIndexBits);
    wide.bits_per_rotation = integer<std::uint32_t>("bits_per_rotation", kMostBitsPerRotation);
    wide.digit_bits = integer<std::uint32_t>("digit_bits", kMostDigitBits);
    wide.digit_count = integer<std::uint32_t>("digits", 64);
    if (wide.index_bits == 0 || wide.bits_per_rotation == 0 || wide.digit_bits == 0 ||
        wide.digit_count == 0 || wide.bits_per_rotation > wide.index_bits ||
        wide.digit_bits * wide.digit_count > 64)
      scan_.fail("a wide lookup has no such shape");
    return wide;
  }

  void output() {
    const auto node = integer<std::size_t>("node", std::int64_t{1} << 24);
    OutputPlan output;
    policy(output);
    output.wire_bits = integer<int>("wire_bits", 64);
    if (output.wire_bits < kLeastWireBits) scan_.fail("words have eight bits at least");
    output.packed = scan_.try_take("packed");
    if (output.packed && !packing_key_set(plan_.key_sets))
      scan_.fail("results are packed, but no key set has a trace");
    output.guard = number("guard");
    output.noise = variance("noise");
    output.flip_probability = number("flip");
    output.wrap_probability = number("wrap");
    plan_.outputs[node] = output;
  }

  Scanner scan_;
  Plan plan_;
};

}  // namespace

std::string print(const Plan& plan, const Circuit& circuit) {
  std::string text = header(plan, circuit);
  for (std::size_t v = 0; v < plan.tensors.size(); ++v) {
    const TensorPlan& tensor = plan.tensors[v];
    text += fmt::format("  %{} scale {} center {} noise {}\n", v, power(tensor.scale),
                        tensor.center, sigma(tensor.noise));
  }
  for (const auto& [node, lookup] : plan.lookups) {
    const std::string set = plan.key_sets.size() == 1 ? "" : fmt::format("set {} ", lookup.key_set);
    text += fmt::format(
        "  lookup node {} {} {} {}{}{} guard {} noise {} step {} far {} flip {} wrap {}\n", node,
        quote(circuit.nodes[node].name), policy_text(lookup.policy, lookup.tolerance), set,
        rotation(lookup.rotation), lookup.is_odd ? " odd" : wide(lookup.wide), lookup.guard,
        sigma(lookup.noise), probability(lookup.step_probability),
        probability(lookup.far_probability), probability(lookup.flip_probability),
        probability(lookup.wrap_probability));
  }
  for (const auto& [node, output] : plan.outputs) {
    text += fmt::format("  output node {} {} {} wire_bits {}{} guard {} noise {} flip {} wrap {}\n",
                        node, quote(circuit.nodes[node].name),
                        policy_text(output.policy, output.tolerance), output.wire_bits,
                        output.packed ? " packed" : "", output.guard, sigma(output.noise),
                        probability(output.flip_probability), probability(output.wrap_probability));
  }
  return text + "end\n";
}

Plan parse_plan(const std::string& text) { return PlanParser(text).run(); }

}  // namespace torusml
