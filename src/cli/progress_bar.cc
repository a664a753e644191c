#include "cli/progress_bar.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>

#include "cli/human.h"

namespace torusml {
namespace {

constexpr std::size_t kWidth = 30;
constexpr std::chrono::milliseconds kInterval{100};
constexpr const char* kClearLine = "\r\x1b[K";

}  // namespace

ProgressBar::ProgressBar(std::string label)
    : label_(std::move(label)),
      enabled_(isatty(STDERR_FILENO) == 1),
      start_(Clock::now()),
      last_(start_) {}

ProgressBar::~ProgressBar() {
  if (drawn_) fmt::print(stderr, "{}", kClearLine);
}

ProgressCallback ProgressBar::callback() {
  if (!enabled_) return {};
  return [this](std::size_t done, std::size_t total) { show(done, total); };
}

void ProgressBar::show(std::size_t done, std::size_t total) {
  const Clock::time_point now = Clock::now();
  if (total == 0 || done == 0 || now - last_ < kInterval) return;
  last_ = now;
  drawn_ = true;
  const double fraction = static_cast<double>(done) / static_cast<double>(total);
  const double elapsed = std::chrono::duration<double>(now - start_).count();
  const std::size_t filled = kWidth * done / total;
  // The first moments say little about the rest.
  const std::string left =
      elapsed < 1 ? "" : fmt::format(", {} left", human_seconds(elapsed / fraction - elapsed));
  fmt::print(stderr, "{}{} [{:#>{}}{:->{}}] {:.0f} %{}", kClearLine, label_, "", filled, "",
             kWidth - filled, 100 * fraction, left);
  std::fflush(stderr);
}

}  // namespace torusml
