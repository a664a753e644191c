#include "cli/human.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <string_view>
#include <utility>

#include "torusml/error.h"

namespace torusml {
namespace {

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

// Of a unit; 0 if there is no such unit.
double unit_bytes(std::string_view unit) {
  constexpr std::pair<std::string_view, double> kUnits[] = {
      {"", 1},         {"B", 1},        {"kB", 1e3},     {"KB", 1e3},
      {"MB", 1e6},     {"GB", 1e9},     {"TB", 1e12},    {"KiB", 0x1p10},
      {"kiB", 0x1p10}, {"MiB", 0x1p20}, {"GiB", 0x1p30}, {"TiB", 0x1p40}};
  for (const auto& [name, bytes] : kUnits) {
    if (unit == name) return bytes;
  }
  return 0;
}

}  // namespace

std::string counted(std::int64_t count, const std::string& noun, const std::string& plural) {
  if (count == 1) return fmt::format("1 {}", noun);
  return fmt::format("{} {}", count, plural.empty() ? noun + "s" : plural);
}

double parse_number(const std::string& text, const std::string& option) {
  const std::string_view view = text;
  double value = 0;
  if (view.starts_with("2^") && read_double(view.substr(2), value)) return std::exp2(value);
  if (read_double(view, value)) return value;
  throw Error(ErrorCode::invalid_argument, fmt::format("'{}' is not a number", text), option,
              "2^-40 or 1e-5");
}

std::uint64_t parse_bytes(const std::string& text, const std::string& option) {
  const std::string_view view = text;
  const std::size_t digits = std::min(view.find_first_not_of("0123456789."), view.size());
  std::string_view unit = view.substr(digits);
  if (unit.starts_with(' ')) unit.remove_prefix(1);
  double value = 0;
  const bool number = read_double(view.substr(0, digits), value);
  const double bytes = value * unit_bytes(unit);
  if (number && bytes >= 1 && bytes < 0x1p63) return static_cast<std::uint64_t>(bytes);
  throw Error(ErrorCode::invalid_argument, fmt::format("'{}' is not a size of memory", text),
              option, "2GB, 500MB or 1.5GiB");
}

Limits parse_limits(int threads, const std::string& memory_limit) {
  return {threads, memory_limit.empty() ? 0 : parse_bytes(memory_limit, "--memory-limit")};
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
