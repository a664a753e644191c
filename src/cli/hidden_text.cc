#include "cli/hidden_text.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <termios.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <string_view>

#include "artifact/files.h"

namespace torusml {
namespace {

constexpr std::size_t kMostBytes = 4096;

[[noreturn]] void fail(const HiddenTextKind& kind, const std::string& what,
                       const std::string& hint) {
  throw Error(kind.code, what, kind.option, hint);
}

// The terminal without echo, as long as this lives.
class SilentTerminal {
 public:
  explicit SilentTerminal(const HiddenTextKind& kind)
      : kind_(kind), descriptor_(open("/dev/tty", O_RDWR | O_CLOEXEC)) {
    if (descriptor_ < 0 || tcgetattr(descriptor_, &before_) != 0) {
      if (descriptor_ >= 0) close(descriptor_);
      fail(kind, fmt::format("{}, and there is no terminal to ask", kind.purpose),
           fmt::format("{0} env:NAME or {0} file:PATH", kind.option));
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

  SecretBuffer<std::uint8_t> ask() const {
    say(kind_.question);
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
    if (write(descriptor_, text.data(), text.size()) < 0)
      fail(kind_, "cannot write to the terminal", "");
  }

  const HiddenTextKind& kind_;
  int descriptor_;
  termios before_{};
};

SecretBuffer<std::uint8_t> from_environment(const HiddenTextKind& kind, const std::string& name) {
  const char* const value = std::getenv(name.c_str());
  if (value == nullptr) fail(kind, fmt::format("there is no environment variable '{}'", name), "");
  return passphrase_of(value);
}

SecretBuffer<std::uint8_t> from_file(const HiddenTextKind& kind, const std::string& path) {
  const FileSource source(path);
  source.check_is_private();
  if (source.size() > kMostBytes) {
    throw Error(
        ErrorCode::file_too_large,
        fmt::format("{} of {} bytes, at most {} are taken", kind.option, source.size(), kMostBytes),
        fmt::format("file '{}'", path));
  }
  SecretBuffer<std::uint8_t> bytes(static_cast<std::size_t>(source.size()));
  source.read(0, bytes);
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  return passphrase_of(text.substr(0, text.find_first_of("\r\n")));
}

}  // namespace

SecretBuffer<std::uint8_t> hidden_text(const HiddenTextKind& kind, const std::string& source) {
  check_hidden_text_source(kind, source);
  if (source == "prompt") return SilentTerminal(kind).ask();
  if (source.starts_with("env:")) return from_environment(kind, source.substr(4));
  return from_file(kind, source.substr(5));
}

void check_hidden_text_source(const HiddenTextKind& kind, const std::string& source) {
  if (source == "prompt" || source.starts_with("env:") || source.starts_with("file:")) return;
  // Not repeated: it may be the secret itself.
  throw Error(ErrorCode::unknown_option, "it says where the secret is, and never holds it",
              kind.option, "prompt, env:NAME or file:PATH");
}

}  // namespace torusml
