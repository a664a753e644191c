// Secret text that a user names, and never gives on the command line, which others can see.
//
//   const HiddenTextKind token{ErrorCode::invalid_argument, "--token", "token of the server: "};
//   SecretBuffer<std::uint8_t> text = hidden_text(token, "env:TORUSML_TOKEN");
//
// Thread rule: the program's main thread.
#pragma once

#include <string>

#include "artifact/sealing.h"
#include "torusml/error.h"

namespace torusml {

struct HiddenTextKind {
  ErrorCode code;        // when it cannot be had
  std::string option;    // for errors
  std::string question;  // on the terminal
  std::string purpose;   // what it is asked for, for the error where there is no terminal
};

// "prompt": asked for on the terminal; "env:NAME"; "file:PATH": the first line of a file that only
// its owner may read. Errors: that of the kind, unknown_option, key_exposed, file_too_large and
// errors of files.
SecretBuffer<std::uint8_t> hidden_text(const HiddenTextKind& kind, const std::string& source);
// Error unknown_option unless it is one of the three.
void check_hidden_text_source(const HiddenTextKind& kind, const std::string& source);

}  // namespace torusml
