#include "cli/human.h"

#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <string_view>
#include <utility>

#include "torusml/error.h"

namespace torusml {
namespace {

// Three digits, as many as people read.
std::string three_digits(double value) {
  return fmt::format("{:.{}f}", value, value < 9.995 ? 2 : value < 99.95 ? 1 : 0);
}

bool read_double(std::string_view text, double& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size() && std::isfinite(value);
}

bool read_int(std::string_view text, int& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size();
}

constexpr std::size_t kMostIntegers = 1000;
constexpr std::string_view kRange = "..";

[[noreturn]] void refuse_integers(const std::string& text, const std::string& what,
                                  const std::string& option) {
  throw Error(ErrorCode::invalid_argument, fmt::format("'{}' {}", text, what), option,
              "4 or 2..8 or 2,4,8");
}

// "4" or "2..8".
std::pair<int, int> read_range(std::string_view item, const std::string& text,
                               const std::string& option) {
  const std::size_t dots = item.find(kRange);
  int first = 0, last = 0;
  if (dots == std::string_view::npos) {
    if (!read_int(item, first)) refuse_integers(text, "is no list of integers", option);
    return {first, first};
  }
  if (!read_int(item.substr(0, dots), first) || !read_int(item.substr(dots + 2), last))
    refuse_integers(text, "is no list of integers", option);
  if (first > last) refuse_integers(text, "has a range that runs backwards", option);
  return {first, last};
}

}  // namespace

std::string human_bytes(std::uint64_t bytes) {
  if (bytes < 1000) return fmt::format("{} B", bytes);
  double value = static_cast<double>(bytes);
  const char* units[] = {"B", "kB", "MB", "GB", "TB"};
  std::size_t unit = 0;
  while (value >= 999.5 && unit + 1 < std::size(units)) {
    value /= 1000;
    ++unit;
  }
  return fmt::format("{} {}", three_digits(value), units[unit]);
}

std::string human_seconds(double seconds) {
  if (seconds < 1e-3) return fmt::format("{} us", three_digits(seconds * 1e6));
  if (seconds < 1) return fmt::format("{} ms", three_digits(seconds * 1e3));
  if (seconds < 99.5) return fmt::format("{} s", three_digits(seconds));
  const auto whole = static_cast<std::int64_t>(std::llround(seconds));
  if (whole < 3600) return fmt::format("{} min {} s", whole / 60, whole % 60);
  return fmt::format("{} h {} min", whole / 3600, whole / 60 % 60);
}

std::string human_probability(double probability) {
  if (probability == 0) return "0";
  if (probability >= 1e-3) return fmt::format("{:.2g} %", 100 * probability);
  return fmt::format("2^{:.4g}", std::log2(probability));
}

std::string counted(std::int64_t count, const std::string& noun) {
  return fmt::format("{} {}{}", count, noun, count == 1 ? "" : "s");
}

double parse_number(const std::string& text, const std::string& option) {
  const std::string_view view = text;
  double value = 0;
  if (view.starts_with("2^") && read_double(view.substr(2), value)) return std::exp2(value);
  if (read_double(view, value)) return value;
  throw Error(ErrorCode::invalid_argument, fmt::format("'{}' is not a number", text), option,
              "2^-40 or 1e-5");
}

std::vector<int> parse_integers(const std::string& text, const std::string& option) {
  std::vector<int> values;
  std::string_view rest = text;
  while (true) {
    const std::size_t comma = rest.find(',');
    const auto [first, last] = read_range(rest.substr(0, comma), text, option);
    for (std::int64_t value = first; value <= last; ++value) {
      if (values.size() == kMostIntegers)
        refuse_integers(text, fmt::format("has more than {} integers", kMostIntegers), option);
      values.push_back(static_cast<int>(value));
    }
    if (comma == std::string_view::npos) return values;
    rest.remove_prefix(comma + 1);
  }
}

}  // namespace torusml
