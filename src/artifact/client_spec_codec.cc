#include "artifact/client_spec_codec.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "artifact/json_fields.h"

namespace torusml {
namespace {

constexpr std::size_t kMaxTensors = 4096;
constexpr std::int64_t kMaxOffset = std::int64_t{1} << 40;
constexpr std::size_t kMaxChannels = std::size_t{1} << 24;
// Integers and zero points stay below it, so that their difference has 64 bits.
constexpr std::int64_t kTooLarge = std::int64_t{1} << 62;

Json quantizer_json(const UniformQuantizer& quantizer) {
  const QuantizationOptions& o = quantizer.options();
  const UniformQuantizationParameters& p = quantizer.parameters();
  return {{"n_bits", o.n_bits},
          {"is_signed", o.is_signed},
          {"is_symmetric", o.is_symmetric},
          {"is_qat", o.is_qat},
          {"is_narrow", o.is_narrow},
          {"is_precomputed_qat", o.is_precomputed_qat},
          {"scale", p.scale},
          {"zero_point", p.zero_point},
          {"offset", p.offset}};
}

// Whole numbers are written as such.
Json zero_points_json(const std::vector<double>& values) {
  constexpr double kMostExact = 0x1p53;
  Json list = Json::array();
  for (const double value : values) {
    if (value == std::nearbyint(value) && std::abs(value) <= kMostExact)
      list.push_back(static_cast<std::int64_t>(value));
    else
      list.push_back(value);
  }
  return list;
}

Json options_json(const PlanOptions& o) {
  return {{"precision", to_string(o.precision)},
          {"profile", to_string(o.profile)},
          {"p_error", o.p_error},
          {"global_p_error", o.global_p_error},
          {"tolerance", o.tolerance},
          {"security_bits", o.security_bits},
          {"max_exact_bits", o.max_exact_bits},
          {"parameters", to_string(o.key_set_source)},
          {"max_key_sets", o.max_key_sets}};
}

// What inputs and outputs have in common.
template <class Spec>
Json tensor_json(const Spec& spec) {
  return {{"name", spec.name},
          {"shape", spec.shape},
          {"interval", interval_json(spec.interval)},
          {"torus_scale", spec.torus_scale},
          {"center", spec.center}};
}

class SpecReader {
 public:
  SpecReader(const ContainerReader& reader, const std::string& section)
      : reader_(reader), name_(section), section_(reader, section) {}

  ClientSpec run() const {
    ClientSpec spec;
    const Json& root = section_.root();
    spec.model_name = section_.text(root, "model_name");
    spec.key_sets = section_.key_sets();
    spec.options = options(section_.object(root, "options"));
    for (const Json& input : section_.array(root, "inputs", kMaxTensors))
      spec.inputs.push_back(input_spec(input));
    for (const Json& output : section_.array(root, "outputs", kMaxTensors))
      spec.outputs.push_back(output_spec(output));
    return spec;
  }

 private:
  PlanOptions options(const Json& json) const {
    PlanOptions o;
    reading(reader_, name_, [&] {
      o.precision = parse_precision(section_.text(json, "precision"));
      o.profile = parse_profile(section_.text(json, "profile"));
      o.key_set_source = parse_key_set_source(section_.text(json, "parameters"));
    });
    o.p_error = section_.number(json, "p_error");
    o.global_p_error = section_.number(json, "global_p_error");
    o.tolerance = section_.number(json, "tolerance");
    o.security_bits = static_cast<int>(section_.integer(json, "security_bits", 0, 1024));
    o.max_exact_bits = static_cast<int>(section_.integer(json, "max_exact_bits", 0, 64));
    o.max_key_sets = static_cast<int>(section_.integer(json, "max_key_sets", 1, kMostKeySets));
    return o;
  }

  template <class Spec>
  void tensor(const Json& json, Spec& spec) const {
    spec.name = section_.text(json, "name");
    spec.shape = section_.shape(json, "shape");
    spec.interval = section_.interval(json, "interval");
    spec.torus_scale = section_.number(json, "torus_scale");
    spec.center = section_.number(json, "center");
    check_size<std::int64_t>({spec.interval.lower, spec.interval.upper}, "interval", spec.name);
    if (!(spec.torus_scale > 0 && spec.torus_scale <= 1))
      section_.corrupt(fmt::format("the torus scale of '{}' is {}", spec.name, spec.torus_scale));
  }

  InputSpec input_spec(const Json& json) const {
    InputSpec spec;
    tensor(json, spec);
    spec.quantizer = quantizer(section_.object(json, "quantizer"));
    spec.is_clear = section_.flag(json, "clear");
    const UniformQuantizationParameters& p = spec.quantizer.parameters();
    check_channels(std::max(p.scale.size(), p.zero_point.size()), spec.shape, spec.name);
    check_size(p.zero_point, "zero_point", spec.name);
    return spec;
  }

  UniformQuantizer quantizer(const Json& json) const {
    QuantizationOptions o;
    o.n_bits = static_cast<int>(section_.integer(json, "n_bits", 1, 32));
    o.is_signed = section_.boolean(json, "is_signed");
    o.is_symmetric = section_.boolean(json, "is_symmetric");
    o.is_qat = section_.boolean(json, "is_qat");
    o.is_narrow = section_.boolean(json, "is_narrow");
    o.is_precomputed_qat = section_.boolean(json, "is_precomputed_qat");
    UniformQuantizationParameters p;
    p.scale = section_.numbers(json, "scale", kMaxChannels);
    p.zero_point = section_.integers(json, "zero_point", kMaxChannels);
    p.offset = section_.integer(json, "offset", -kMaxOffset, kMaxOffset);
    return reading(reader_, name_, [&] { return UniformQuantizer(o, p); });
  }

  OutputSpec output_spec(const Json& json) const {
    OutputSpec spec;
    tensor(json, spec);
    spec.scale = section_.numbers(json, "scale", kMaxChannels);
    spec.zero_point = section_.numbers(json, "zero_point", kMaxChannels);
    for (const std::vector<double>* values : {&spec.scale, &spec.zero_point})
      check_channels(values->size(), spec.shape, spec.name);
    check_size(spec.zero_point, "zero_point", spec.name);
    return spec;
  }

  template <class Number>
  void check_size(const std::vector<Number>& values, const char* key,
                  const std::string& name) const {
    constexpr auto kLimit = static_cast<Number>(kTooLarge);
    for (const Number value : values) {
      if (value <= -kLimit || value >= kLimit)
        section_.corrupt(fmt::format("'{}' of '{}' has {}, beyond 2^62", key, name, value));
    }
  }

  void check_channels(std::size_t channels, const Shape& shape, const std::string& name) const {
    const bool matches = channels == 1 ||
                         (!shape.empty() && channels == static_cast<std::size_t>(shape.back())) ||
                         channels == static_cast<std::size_t>(number_of_elements(shape));
    if (!matches)
      section_.corrupt(fmt::format("'{}' of shape {} has {} scales or zero points", name,
                                   to_string(shape), channels));
  }

  const ContainerReader& reader_;
  std::string name_;
  JsonSection section_;
};

}  // namespace

std::string client_spec_text(const ClientSpec& spec) {
  Json inputs = Json::array(), outputs = Json::array();
  for (const InputSpec& input : spec.inputs) {
    inputs.push_back(tensor_json(input));
    inputs.back()["quantizer"] = quantizer_json(input.quantizer);
    if (input.is_clear) inputs.back()["clear"] = true;
  }
  for (const OutputSpec& output : spec.outputs) {
    outputs.push_back(tensor_json(output));
    outputs.back()["scale"] = output.scale;
    outputs.back()["zero_point"] = zero_points_json(output.zero_point);
  }
  return json_text({{"model_name", spec.model_name},
                    {"key_sets", key_sets_json(spec.key_sets)},
                    {"options", options_json(spec.options)},
                    {"inputs", std::move(inputs)},
                    {"outputs", std::move(outputs)}});
}

ClientSpec read_client_spec(const ContainerReader& reader, const std::string& section) {
  return SpecReader(reader, section).run();
}

}  // namespace torusml
