#include "circuit/scanner.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "torusml/error.h"

namespace torusml {
namespace {

bool is_word_character(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
         c == '.' || c == '-';
}

}  // namespace

void Scanner::fail(const std::string& message) const {
  const auto line =
      1 + std::count(text_.begin(), text_.begin() + static_cast<std::ptrdiff_t>(at_), '\n');
  throw Error(ErrorCode::invalid_circuit, message, fmt::format("line {}", line));
}

void Scanner::skip_space() {
  while (at_ < text_.size() &&
         (text_[at_] == ' ' || text_[at_] == '\n' || text_[at_] == '\t' || text_[at_] == '\r')) {
    ++at_;
  }
}

bool Scanner::at_end() {
  skip_space();
  return at_ == text_.size();
}

bool Scanner::try_take(std::string_view token) {
  skip_space();
  if (!text_.substr(at_).starts_with(token)) return false;
  const std::size_t end = at_ + token.size();
  const bool is_word = is_word_character(token.back()) && token.back() != '-';
  if (is_word && end < text_.size() && is_word_character(text_[end])) return false;
  at_ = end;
  return true;
}

bool Scanner::try_take_symbol(std::string_view symbol) {
  skip_space();
  if (!text_.substr(at_).starts_with(symbol)) return false;
  at_ += symbol.size();
  return true;
}

void Scanner::take(std::string_view token) {
  if (!try_take(token)) fail(fmt::format("expected '{}'", token));
}

std::int64_t Scanner::take_integer() {
  skip_space();
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text_.data() + at_, text_.data() + text_.size(), value);
  if (error != std::errc()) fail("expected an integer of at most 64 bits");
  at_ = static_cast<std::size_t>(end - text_.data());
  return value;
}

double Scanner::take_number() {
  skip_space();
  double value = 0;
  const auto [end, error] = std::from_chars(text_.data() + at_, text_.data() + text_.size(), value);
  if (error != std::errc() || !std::isfinite(value)) fail("expected a finite number");
  at_ = static_cast<std::size_t>(end - text_.data());
  return value;
}

std::string Scanner::take_string() {
  take("\"");
  std::string value;
  while (at_ < text_.size() && text_[at_] != '"') {
    char c = text_[at_++];
    if (c == '\\') {
      if (at_ == text_.size()) break;
      c = text_[at_++];
      if (c == 'n')
        c = '\n';
      else if (c == 't')
        c = '\t';
      else if (c != '"' && c != '\\')
        fail("unknown escape in a string");
    }
    value += c;
  }
  if (at_ == text_.size()) fail("a string does not end");
  ++at_;
  return value;
}

std::string Scanner::take_name() {
  skip_space();
  const std::size_t start = at_;
  while (at_ < text_.size() && is_word_character(text_[at_])) ++at_;
  if (at_ == start) fail("expected a name");
  return std::string(text_.substr(start, at_ - start));
}

std::vector<std::int64_t> Scanner::take_integers() {
  take("[");
  std::vector<std::int64_t> values;
  if (try_take("]")) return values;
  do {
    values.push_back(take_integer());
  } while (try_take(","));
  take("]");
  return values;
}

void Scanner::skip_remark() {
  if (!try_take("(")) return;
  const std::size_t end = text_.find(')', at_);
  if (end == std::string_view::npos) fail("a remark does not end");
  at_ = end + 1;
}

}  // namespace torusml
