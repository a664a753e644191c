#include "report/markup.h"

#include <fmt/format.h>

#include <cmath>
#include <vector>

namespace torusml {
namespace {

constexpr std::string_view kUnreadable = "\xef\xbf\xbd", kMinus = "\xe2\x88\x92";

// Bytes of the UTF-8 character that `text` begins with; 0 if it begins with none.
std::size_t character_size(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const std::size_t size = byte(0) < 0x80   ? 1
                           : byte(0) < 0xc2 ? 0
                           : byte(0) < 0xe0 ? 2
                           : byte(0) < 0xf0 ? 3
                           : byte(0) < 0xf5 ? 4
                                            : 0;
  if (size > text.size()) return 0;
  for (std::size_t i = 1; i < size; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return 0;
  }
  // Longer than need be, surrogates, beyond U+10FFFF.
  if (size == 3 && ((byte(0) == 0xe0 && byte(1) < 0xa0) || (byte(0) == 0xed && byte(1) > 0x9f)))
    return 0;
  if (size == 4 && ((byte(0) == 0xf0 && byte(1) < 0x90) || (byte(0) == 0xf4 && byte(1) > 0x8f)))
    return 0;
  return size;
}

// C0 and C1 controls, and marks that turn the direction of writing.
bool is_control(std::string_view character) {
  if (character.size() == 1)
    return static_cast<unsigned char>(character[0]) < 0x20 || character == "\x7f";
  if (character.size() == 2) return character >= "\xc2\x80" && character <= "\xc2\x9f";
  return (character >= "\xe2\x80\xaa" && character <= "\xe2\x80\xae") ||
         (character >= "\xe2\x81\xa6" && character <= "\xe2\x81\xa9") ||
         character == "\xe2\x80\xa8" || character == "\xe2\x80\xa9";
}

std::vector<std::string_view> characters(std::string_view text) {
  std::vector<std::string_view> list;
  while (!text.empty()) {
    const std::size_t size = character_size(text);
    const std::string_view character = text.substr(0, std::max<std::size_t>(size, 1));
    list.push_back(size == 0 || is_control(character) ? kUnreadable : character);
    text.remove_prefix(character.size());
  }
  return list;
}

}  // namespace

std::string escape(std::string_view text) {
  std::string result;
  for (const std::string_view character : characters(text)) {
    if (character == "&")
      result += "&amp;";
    else if (character == "<")
      result += "&lt;";
    else if (character == ">")
      result += "&gt;";
    else if (character == "\"")
      result += "&quot;";
    else if (character == "'")
      result += "&#39;";
    else
      result += character;
  }
  return result;
}

std::string shorten(std::string_view text, std::size_t most) {
  const std::vector<std::string_view> list = characters(text);
  std::string result;
  const std::size_t tail = (most - 1) / 3, head = most - 1 - tail;
  for (std::size_t i = 0; i < list.size(); ++i) {
    const bool is_kept = list.size() <= most || i < head || i >= list.size() - tail;
    if (is_kept)
      result += list[i];
    else if (i == head)
      result += "\xe2\x80\xa6";
  }
  return result;
}

std::string grouped(std::int64_t value) {
  const std::string digits = fmt::format("{}", value);
  const std::size_t first = value < 0 ? 1 : 0;
  std::string result(value < 0 ? kMinus : "");
  for (std::size_t i = first; i < digits.size(); ++i) {
    if (i > first && (digits.size() - i) % 3 == 0) result += ',';
    result += digits[i];
  }
  return result;
}

std::string text(Interval interval) {
  return fmt::format("[{}, {}]", grouped(interval.lower), grouped(interval.upper));
}

std::string with_powers(const std::string& text) {
  const std::size_t at = text.find("2^");
  if (at == std::string::npos) return text;
  std::size_t end = at + 2;
  std::string exponent;
  if (end < text.size() && text[end] == '-') exponent = kMinus, ++end;
  while (end < text.size() &&
         (std::isdigit(static_cast<unsigned char>(text[end])) || text[end] == '.'))
    exponent += text[end++];
  return fmt::format("{}2<sup>{}</sup>{}", text.substr(0, at), exponent, text.substr(end));
}

std::string coordinate(double value) {
  const double tenths = std::round(10 * value) / 10;
  return fmt::format("{}", tenths == 0 ? 0.0 : tenths);
}

}  // namespace torusml
