#include "compiler/rounding.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>

#include "torusml/error.h"

namespace torusml {
namespace {

constexpr int kLeastBits = 2, kMostBits = 8;

std::string lower_case(std::string text) {
  for (char& c : text) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return text;
}

RoundingMethod parse_method(const std::string& text, const std::string& where) {
  if (text == "exact") return RoundingMethod::exact;
  if (text == "approximate") return RoundingMethod::approximate;
  throw Error(ErrorCode::unknown_option, fmt::format("rounding method \"{}\" is not known", text),
              where, "exact or approximate");
}

[[noreturn]] void contradict(const std::string& precision, const Rounding& rounding,
                             const std::string& hint) {
  throw Error(ErrorCode::invalid_argument,
              fmt::format("precision \"{}\" and rounding to {} bits by method {} contradict each "
                          "other",
                          precision, rounding.bits, to_string(rounding.method)),
              "", hint);
}

}  // namespace

std::string to_string(RoundingMethod method) {
  return method == RoundingMethod::exact ? "exact" : "approximate";
}

std::optional<Rounding> parse_rounding(const std::string& text, const std::string& where) {
  if (text.empty()) return std::nullopt;
  const std::string low = lower_case(text);
  const std::size_t colon = low.find(':');
  const std::string bits = low.substr(0, colon);
  if (bits == "auto") {
    throw Error(ErrorCode::not_supported, "rounding to a number of bits found automatically", where,
                "a number of bits from 2 to 8, or no rounding");
  }
  const bool is_number = !bits.empty() && bits.size() < 4 &&
                         std::ranges::all_of(bits, [](char c) { return c >= '0' && c <= '9'; });
  if (!is_number) {
    throw Error(ErrorCode::unknown_option, fmt::format("\"{}\" is no rounding", text), where,
                "6, 6:exact or 6:approximate");
  }
  Rounding rounding{std::stoi(bits)};
  if (rounding.bits < kLeastBits || rounding.bits > kMostBits) {
    throw Error(ErrorCode::unsupported_bits,
                fmt::format("rounding to {} bits; {} to {} are supported", rounding.bits,
                            kLeastBits, kMostBits),
                where, "no rounding keeps all bits");
  }
  if (colon != std::string::npos) rounding.method = parse_method(low.substr(colon + 1), where);
  return rounding;
}

std::string precision_with(const std::string& precision, const std::optional<Rounding>& rounding) {
  const std::string rounded = to_string(Precision::rounded);
  if (!rounding) {
    if (precision != rounded)
      return precision.empty() ? to_string(Precision::automatic) : precision;
    throw Error(ErrorCode::invalid_argument, "precision \"rounded\" without rounding", "",
                "rounding=6 for rounding to 6 bits, or precision \"exact\"");
  }
  const std::string wanted = rounding->method == RoundingMethod::exact ? rounded : "tolerant";
  if (precision.empty() || precision == wanted) return wanted;
  if (precision == "auto") contradict(precision, *rounding, "one of the two");
  parse_precision(precision);
  if (wanted == rounded && precision == "exact") return wanted;
  contradict(precision, *rounding,
             wanted == rounded ? "method approximate, or precision \"exact\""
                               : "method exact, or precision \"tolerant\"");
}

PlanOptions with_rounding(PlanOptions options, const std::optional<Rounding>& rounding) {
  options.precision = parse_precision(precision_with(to_string(options.precision), rounding));
  if (!rounding || rounding->method == RoundingMethod::exact) return options;
  if (options.profile == Profile::shared_results) {
    throw Error(ErrorCode::profile_forbids,
                "profile shared_results refuses rounding by method approximate: visible errors "
                "leak the key",
                "",
                "method exact, or profile private_results if only the key's owner sees results");
  }
  if (options.tolerance != PlanOptions{}.tolerance) {
    throw Error(ErrorCode::invalid_argument,
                fmt::format("tolerance {} and rounding to {} bits by method approximate exclude "
                            "each other: the tolerance follows from the bits",
                            options.tolerance, rounding->bits),
                "", "one of the two");
  }
  options.approximate_bits = rounding->bits;
  return options;
}

}  // namespace torusml
