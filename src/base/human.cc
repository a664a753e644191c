#include "base/human.h"

#include <fmt/format.h>

#include <cmath>
#include <iterator>

namespace torusml {

std::string three_digits(double value) {
  return fmt::format("{:.{}f}", value, value < 9.995 ? 2 : value < 99.95 ? 1 : 0);
}

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
  if (probability >= 0.0995) return fmt::format("{:.0f} %", 100 * probability);
  if (probability >= 1e-3) return fmt::format("{:.2g} %", 100 * probability);
  return fmt::format("2^{:.4g}", std::log2(probability));
}

}  // namespace torusml
