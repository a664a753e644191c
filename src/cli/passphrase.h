// Where the passphrase of a secret key comes from: never from the command line, which others can
// see.
//
//   PassphraseSource source = passphrase_source("env:KEY_PASSPHRASE", false);
//   SecretKeySet keys = load_secret_keys("client.key", source);
//
// Thread rule: the program's main thread.
#pragma once

#include <string>

#include "artifact/sealing.h"

namespace torusml {

// "prompt": asked for on the terminal, twice if it is for a new key; "env:NAME"; "file:PATH": the
// first line of a file that only its owner may read. Empty: for a new key none, which is an empty
// source; otherwise a prompt where there is a terminal. Error unknown_option; what is called later
// may throw wrong_passphrase, key_exposed and errors of files.
PassphraseSource passphrase_source(const std::string& option, bool is_new);

}  // namespace torusml
