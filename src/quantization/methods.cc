#include "quantization/methods.h"

#include <fmt/format.h>

#include <array>
#include <utility>

#include "torusml/error.h"

namespace torusml {
namespace {

constexpr std::array<std::pair<const char*, QuantizationMethod>, 6> kNames{{
    {"compatible", QuantizationMethod::compatible},
    {"minmax", QuantizationMethod::minmax},
    {"percentile", QuantizationMethod::percentile},
    {"mse", QuantizationMethod::mse},
    {"entropy", QuantizationMethod::entropy},
    {"best", QuantizationMethod::best},
}};

}  // namespace

QuantizationMethod parse_quantization_method(const std::string& name) {
  if (name.empty()) return QuantizationMethod::compatible;
  for (const auto& [known, method] : kNames) {
    if (name == known) return method;
  }
  throw Error(ErrorCode::unknown_option, fmt::format("there is no quantization method '{}'", name),
              "method", "minmax, percentile, mse, entropy, best or compatible");
}

std::string to_string(QuantizationMethod method) {
  for (const auto& [name, known] : kNames) {
    if (known == method) return name;
  }
  return "";
}

}  // namespace torusml
