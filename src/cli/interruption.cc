#include "cli/interruption.h"

#include <fmt/format.h>

#include <csignal>
#include <utility>

#include "torusml/error.h"

namespace torusml {
namespace {

volatile std::sig_atomic_t received = 0;

void remember(int signal) {
  received = signal;
  std::signal(signal, SIG_DFL);
}

}  // namespace

Interruption::Interruption(std::string checkpoint) : checkpoint_(std::move(checkpoint)) {
  received = 0;
  std::signal(SIGINT, remember);
  std::signal(SIGTERM, remember);
}

Interruption::~Interruption() {
  std::signal(SIGINT, SIG_DFL);
  std::signal(SIGTERM, SIG_DFL);
}

ProgressCallback Interruption::callback(ProgressCallback shown) const {
  return [this, shown = std::move(shown)](std::size_t done, std::size_t total) {
    if (received != 0) {
      throw Error(ErrorCode::cancelled,
                  fmt::format("the run was stopped by {} after {} of {} lookups",
                              received == SIGINT ? "SIGINT" : "SIGTERM", done, total),
                  "",
                  checkpoint_.empty()
                      ? "--checkpoint FILE, so that a run goes on where it was stopped"
                      : fmt::format("the same command again, which goes on from {}", checkpoint_));
    }
    if (shown) shown(done, total);
  };
}

}  // namespace torusml
