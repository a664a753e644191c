#include "parameters/catalogue.h"

#include <fmt/format.h>

#include "parameters/catalogue_data.h"
#include "parameters/noise.h"
#include "torusml/error.h"

namespace torusml {
namespace {

std::string gadget_name(const Gadget& gadget) {
  return fmt::format("{}x{}", gadget.level_count, gadget.base_log2);
}

bool has_bootstrap(const ParameterRequest& request) {
  for (const NoiseConstraint& c : request.constraints) {
    if (c.is_lookup || c.bootstrap_norm2 > 0) return true;
  }
  return false;
}

}  // namespace

std::string to_string(KeySetSource source) {
  return source == KeySetSource::catalogue ? "catalogue" : "custom";
}

KeySetSource parse_key_set_source(const std::string& text) {
  if (text == "catalogue") return KeySetSource::catalogue;
  if (text == "custom") return KeySetSource::custom;
  throw Error(ErrorCode::unknown_option, fmt::format("parameters \"{}\" are not known", text), "",
              "\"catalogue\" or \"custom\"");
}

std::vector<TfheParameters> catalogue() {
  std::vector<TfheParameters> key_sets;
  for (const CatalogueRow& row : kCatalogueRows) {
    TfheParameters p;
    p.small_dimension = {row.small_dimension};
    p.glwe_dimension = {row.glwe_dimension};
    p.polynomial_size = {row.polynomial_size};
    p.bootstrap = {row.bootstrap_base_log2, row.bootstrap_levels};
    p.keyswitch = {row.keyswitch_base_log2, row.keyswitch_levels};
    p.grouping_factor = row.grouping_factor;
    p.accumulator_bits = row.accumulator_bits;
    p.circuit_bootstrap = {row.circuit_base_log2, row.circuit_levels};
    p.trace = {row.trace_base_log2, row.trace_levels};
    p.small_variance = minimal_variance(row.small_dimension, kCatalogueSecurityBits);
    p.glwe_variance = minimal_variance(p.big_dimension().value, kCatalogueSecurityBits);
    key_sets.push_back(p);
  }
  return key_sets;
}

std::string key_set_name(const TfheParameters& p) {
  std::string name =
      fmt::format("n{}-k{}-s{}-g{}-b{}-t{}-w{}", p.polynomial_size.value, p.glwe_dimension.value,
                  p.small_dimension.value, p.grouping_factor, gadget_name(p.bootstrap),
                  gadget_name(p.keyswitch), p.accumulator_bits);
  if (p.has_circuit_bootstrap()) name += fmt::format("-c{}", gadget_name(p.circuit_bootstrap));
  if (p.has_trace()) name += fmt::format("-r{}", gadget_name(p.trace));
  return name;
}

std::optional<ParameterChoice> choose_key_set(const ParameterRequest& request, KeySetSource source,
                                              std::string* tightest) {
  if (source == KeySetSource::catalogue && request.security_bits == kCatalogueSecurityBits &&
      has_bootstrap(request)) {
    if (std::optional<ParameterChoice> choice = choose_among(catalogue(), request)) {
      KeySet& set = choice->key_sets.front();
      set.name = key_set_name(set.parameters);
      return choice;
    }
  }
  return choose_parameters(request, tightest);
}

}  // namespace torusml
