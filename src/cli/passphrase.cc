#include "cli/passphrase.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <string_view>

#include "artifact/files.h"
#include "torusml/error.h"

namespace torusml {
namespace {

constexpr std::size_t kMostBytes = 4096;

[[noreturn]] void fail(const std::string& what, const std::string& hint) {
  throw Error(ErrorCode::wrong_passphrase, what, "--passphrase", hint);
}

// The terminal without echo, as long as this lives.
class SilentTerminal {
 public:
  SilentTerminal() : descriptor_(open("/dev/tty", O_RDWR | O_CLOEXEC)) {
    if (descriptor_ < 0 || tcgetattr(descriptor_, &before_) != 0) {
      if (descriptor_ >= 0) close(descriptor_);
      fail("the key is sealed, and there is no terminal to ask for the passphrase",
           "--passphrase env:NAME or --passphrase file:PATH");
    }
    termios silent = before_;
    silent.c_lflag &= ~static_cast<tcflag_t>(ECHO);
    tcsetattr(descriptor_, TCSAFLUSH, &silent);
  }
  ~SilentTerminal() {
    tcsetattr(descriptor_, TCSAFLUSH, &before_);
    close(descriptor_);
  }
  SilentTerminal(const SilentTerminal&) = delete;
  SilentTerminal& operator=(const SilentTerminal&) = delete;

  Passphrase ask(std::string_view question) const {
    say(question);
    SecretBuffer<std::uint8_t> typed(kMostBytes);
    std::size_t size = 0;
    for (ssize_t got = 0; size < kMostBytes; size += static_cast<std::size_t>(got)) {
      got = read(descriptor_, typed.data() + size, 1);
      if (got < 0 && errno == EINTR) got = 0;
      if (got < 0 || (got == 1 && typed[size] == '\n')) break;
    }
    say("\n");
    return passphrase_of({reinterpret_cast<const char*>(typed.data()), size});
  }

 private:
  void say(std::string_view text) const {
    if (write(descriptor_, text.data(), text.size()) < 0) fail("cannot write to the terminal", "");
  }

  int descriptor_;
  termios before_{};
};

Passphrase from_terminal(bool is_new) {
  const SilentTerminal terminal;
  Passphrase passphrase = terminal.ask("passphrase of the secret key: ");
  if (!is_new) return passphrase;
  const Passphrase again = terminal.ask("the same again: ");
  if (!std::ranges::equal(std::span<const std::uint8_t>(passphrase),
                          std::span<const std::uint8_t>(again)))
    fail("the two passphrases differ", "the command again");
  return passphrase;
}

Passphrase from_environment(const std::string& name) {
  const char* const value = std::getenv(name.c_str());
  if (value == nullptr) fail(fmt::format("there is no environment variable '{}'", name), "");
  return passphrase_of(value);
}

Passphrase from_file(const std::string& path) {
  const FileSource source(path);
  source.check_is_private();
  if (source.size() > kMostBytes) {
    throw Error(
        ErrorCode::file_too_large,
        fmt::format("a passphrase of {} bytes, at most {} are taken", source.size(), kMostBytes),
        fmt::format("file '{}'", path));
  }
  SecretBuffer<std::uint8_t> bytes(static_cast<std::size_t>(source.size()));
  source.read(0, bytes);
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  return passphrase_of(text.substr(0, text.find_first_of("\r\n")));
}

}  // namespace

PassphraseSource passphrase_source(const std::string& option, bool is_new) {
  if (option.empty() && is_new) return {};
  if (option.empty() || option == "prompt") return [=] { return from_terminal(is_new); };
  if (option.starts_with("env:"))
    return [name = option.substr(4)] { return from_environment(name); };
  if (option.starts_with("file:")) return [path = option.substr(5)] { return from_file(path); };
  // Not repeated: it may be the passphrase itself.
  throw Error(ErrorCode::unknown_option, "it says where the passphrase is, and never holds it",
              "--passphrase", "prompt, env:NAME or file:PATH");
}

}  // namespace torusml
