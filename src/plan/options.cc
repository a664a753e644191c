#include "plan/options.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "torusml/error.h"

namespace torusml {
namespace {

constexpr double kDefaultPrivate = 0x1p-40;

void check_tolerance(double tolerance, const std::string& where) {
  if (tolerance > 0 && tolerance <= 0.25) return;
  throw Error(
      ErrorCode::invalid_argument,
      fmt::format("tolerance is {}; it is a fraction of the interval, above 0 and at most 0.25",
                  tolerance),
      where);
}

void check_shared_results(Precision policy, const std::string& where) {
  if (policy != Precision::tolerant) return;
  throw Error(
      ErrorCode::profile_forbids,
      "profile shared_results refuses precision tolerant: visible errors leak the key", where,
      "precision \"exact\", or profile private_results if only the key's owner sees results");
}

void check_layer(const std::string& name, const LayerPrecision& layer, Profile profile) {
  if (layer.policy == Precision::automatic || layer.policy == Precision::rounded) {
    throw Error(ErrorCode::invalid_argument,
                fmt::format("precision \"{}\" is for all layers together", to_string(layer.policy)),
                layer_text(name), "\"exact\" or \"tolerant\" for a layer of its own");
  }
  if (layer.tolerance != 0) {
    check_tolerance(layer.tolerance, layer_text(name));
    if (layer.policy == Precision::exact) {
      throw Error(ErrorCode::invalid_argument,
                  fmt::format("precision is \"exact\" and tolerance {}", layer.tolerance),
                  layer_text(name), "no tolerance, or precision \"tolerant\"");
    }
  }
  if (profile == Profile::shared_results) check_shared_results(layer.policy, layer_text(name));
}

}  // namespace

std::string layer_text(const std::string& name) { return fmt::format("layer '{}'", name); }

double resolve_p_error(const PlanOptions& options, double events) {
  const auto in_range = [](double p) { return p > 0 && p < 1; };
  if (options.global_p_error != 0) {
    if (!in_range(options.global_p_error)) {
      throw Error(
          ErrorCode::p_error_out_of_range,
          fmt::format("global_p_error is {}, it must lie between 0 and 1", options.global_p_error));
    }
    // 1 - (1 - p)^events = global, without cancellation.
    return -std::expm1(std::log1p(-options.global_p_error) / std::max(1.0, events));
  }
  if (options.p_error == 0)
    return options.profile == Profile::private_results ? kDefaultPrivate : kDefaultShared;
  if (!in_range(options.p_error)) {
    throw Error(ErrorCode::p_error_out_of_range,
                fmt::format("p_error is {}, it must lie between 0 and 1", options.p_error));
  }
  return options.p_error;
}

void check_options(const PlanOptions& options) {
  if (options.p_error != 0 && options.global_p_error != 0) {
    throw Error(ErrorCode::invalid_argument, "p_error and global_p_error exclude each other", "",
                "give one of them");
  }
  if (options.security_bits != 128 && options.security_bits != 132) {
    throw Error(
        ErrorCode::invalid_argument,
        fmt::format("security is {} bits; 128 and 132 are supported", options.security_bits));
  }
  check_tolerance(options.tolerance, "");
  if (options.max_key_sets < 1 || options.max_key_sets > kMostKeySets) {
    throw Error(ErrorCode::invalid_argument,
                fmt::format("max_key_sets is {}; a plan has 1 to {} key sets", options.max_key_sets,
                            kMostKeySets));
  }
  if (options.profile == Profile::shared_results) check_shared_results(options.precision, "");
  for (const auto& [name, layer] : options.layers) check_layer(name, layer, options.profile);
}

std::string to_string(Precision precision) {
  switch (precision) {
    case Precision::exact:
      return "exact";
    case Precision::tolerant:
      return "tolerant";
    case Precision::rounded:
      return "rounded";
    case Precision::automatic:
      break;
  }
  return "auto";
}

std::string to_string(Profile profile) {
  return profile == Profile::private_results ? "private_results" : "shared_results";
}

Precision parse_precision(const std::string& text) {
  if (text == "exact") return Precision::exact;
  if (text == "tolerant") return Precision::tolerant;
  if (text == "rounded") return Precision::rounded;
  if (text == "auto") return Precision::automatic;
  throw Error(ErrorCode::unknown_option, fmt::format("precision \"{}\" is not known", text), "",
              "\"exact\", \"tolerant\", \"rounded\" (with rounding) or \"auto\"");
}

Profile parse_profile(const std::string& text) {
  if (text == "private_results") return Profile::private_results;
  if (text == "shared_results") return Profile::shared_results;
  throw Error(ErrorCode::unknown_option, fmt::format("profile \"{}\" is not known", text), "",
              "\"private_results\" or \"shared_results\"");
}

std::string to_string(PackOutputs pack) {
  if (pack == PackOutputs::automatic) return "auto";
  return pack == PackOutputs::on ? "on" : "off";
}

PackOutputs parse_pack_outputs(const std::string& text) {
  for (const PackOutputs pack : {PackOutputs::automatic, PackOutputs::on, PackOutputs::off})
    if (text == to_string(pack)) return pack;
  throw Error(ErrorCode::unknown_option, fmt::format("pack_outputs \"{}\" is not known", text), "",
              "\"auto\", \"on\" or \"off\"");
}

}  // namespace torusml
