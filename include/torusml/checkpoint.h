// Checkpoints of an encrypted run, so that hours of work survive the process.
#pragma once

#include <string>

namespace torusml {

struct Checkpoint {
  // The file; empty: none. A run that finds it there goes on from it, with the same bits as a run
  // that was never interrupted.
  std::string file;
  // It is written after a layer, at the earliest so many seconds after the last time, and where a
  // run is ended by what its progress callback throws. Long writes are made less often: they take
  // at most a twentieth of the time.
  double seconds = 60;
  // A run that ends well removes the file. false: the caller does, once its results are safe.
  bool remove_at_end = true;
};

}  // namespace torusml
