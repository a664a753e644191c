#include "torusml/error.h"

#include <fmt/format.h>

namespace torusml {
namespace {

std::string full_text(ErrorCode code, const std::string& message, const std::string& where,
                      const std::string& hint) {
  std::string text = fmt::format("{}: {}", error_code_name(code), message);
  if (!where.empty()) text += fmt::format(" ({})", where);
  if (!hint.empty()) text += fmt::format(". Try: {}", hint);
  return text;
}

}  // namespace

std::string error_code_name(ErrorCode code) {
  switch (code) {
#define TORUSML_CASE(name, number, slug) \
  case ErrorCode::name:                  \
    return fmt::format("TML-E{:03} {}", number, slug);
    TORUSML_ERROR_CODES(TORUSML_CASE)
#undef TORUSML_CASE
  }
  return "TML-E099 internal";
}

Error::Error(ErrorCode code, std::string message, std::string where, std::string hint)
    : std::runtime_error(full_text(code, message, where, hint)),
      code_(code),
      message_(std::move(message)),
      where_(std::move(where)),
      hint_(std::move(hint)) {}

}  // namespace torusml
