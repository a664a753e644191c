// Keeps the state of one run in a file.
//
//   CheckpointedRun kept({.file = "x.ckpt"}, model, inputs, batch);
//   run_encrypted(..., kept.hooks());
//   kept.finish();
//
// Thread rule: for the thread that calls run_encrypted.
#pragma once

#include <chrono>

#include "artifact/codecs.h"
#include "runtime/run_state.h"
#include "torusml/checkpoint.h"

namespace torusml {

class CheckpointedRun {
 public:
  // Reads the file where there is one. Errors: those of load_checkpoint and check_state;
  // invalid_argument (seconds).
  CheckpointedRun(const Checkpoint& checkpoint, const ServerHalf& model,
                  const EncryptedInputs& inputs, std::size_t batch);

  CheckpointedRun(const CheckpointedRun&) = delete;
  CheckpointedRun& operator=(const CheckpointedRun&) = delete;

  RunCheckpoints& hooks() { return hooks_; }
  void finish() const;  // the run ended well

 private:
  using Clock = std::chrono::steady_clock;

  void keep(const RunView& run, bool is_interrupted);
  Clock::duration interval() const;

  const Checkpoint checkpoint_;
  const Provenance provenance_;
  const Digest inputs_;
  RunCheckpoints hooks_;
  Clock::time_point next_;
};

}  // namespace torusml
