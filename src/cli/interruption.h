// Ctrl-C and SIGTERM during long work: it ends at its next report of progress, so that what is
// written is whole.
//
//   Interruption interruption("x.ckpt");
//   server.run(inputs, interruption.callback(bar.callback()), limits);   // Error cancelled
//
// While it lives the two signals do nothing else; a second one ends the process at once. Thread
// rule: one at a time, on the main thread.
#pragma once

#include <string>

#include "torusml/progress.h"

namespace torusml {

class Interruption {
 public:
  // checkpoint: the file that a stopped run goes on from; empty: none.
  explicit Interruption(std::string checkpoint);
  ~Interruption();
  Interruption(const Interruption&) = delete;
  Interruption& operator=(const Interruption&) = delete;

  // Throws Error cancelled once a signal has come, and otherwise calls `shown`.
  ProgressCallback callback(ProgressCallback shown) const;

 private:
  std::string checkpoint_;
};

}  // namespace torusml
