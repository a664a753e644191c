#include "cli/passphrase.h"

#include <algorithm>
#include <span>

#include "cli/hidden_text.h"
#include "torusml/error.h"

namespace torusml {
namespace {

HiddenTextKind kind(const std::string& question) {
  return {ErrorCode::wrong_passphrase, "--passphrase", question, "the key is sealed"};
}

Passphrase asked_twice() {
  Passphrase passphrase = hidden_text(kind("passphrase of the secret key: "), "prompt");
  const Passphrase again = hidden_text(kind("the same again: "), "prompt");
  if (!std::ranges::equal(std::span<const std::uint8_t>(passphrase),
                          std::span<const std::uint8_t>(again))) {
    throw Error(ErrorCode::wrong_passphrase, "the two passphrases differ", "--passphrase",
                "the command again");
  }
  return passphrase;
}

}  // namespace

PassphraseSource passphrase_source(const std::string& option, bool is_new) {
  if (option.empty() && is_new) return {};
  const std::string source = option.empty() ? "prompt" : option;
  if (is_new && source == "prompt") return asked_twice;
  check_hidden_text_source(kind(""), source);
  return [source] { return hidden_text(kind("passphrase of the secret key: "), source); };
}

}  // namespace torusml
