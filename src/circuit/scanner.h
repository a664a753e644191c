// Reads the words of a text form, with line numbers for its errors. Shared by the circuit and the
// plan. Text in parentheses after a number, "(2^-6.2)", is for people; skip_remark() drops it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace torusml {

class Scanner {
 public:
  explicit Scanner(std::string_view text) : text_(text) {}

  bool at_end();
  bool try_take(std::string_view token);          // skips white space; whole words only for words
  bool try_take_symbol(std::string_view symbol);  // as it stands, whatever follows
  void take(std::string_view token);              // error invalid_circuit if the next token differs
  std::int64_t take_integer();
  double take_number();
  std::string take_string();                  // in double quotes
  std::string take_name();                    // letters, digits, '_', '.', '-'
  std::vector<std::int64_t> take_integers();  // [1, 2, 3]
  void skip_remark();
  [[noreturn]] void fail(const std::string& message) const;

 private:
  void skip_space();

  std::string_view text_;
  std::size_t at_ = 0;
};

}  // namespace torusml
