#include "serving/checkpointed_run.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "artifact/checkpoint_file.h"
#include "torusml/error.h"

namespace torusml {
namespace {

// Writing takes at most one part in so many of the time.
constexpr int kShareOfTime = 20;

}  // namespace

CheckpointedRun::CheckpointedRun(const Checkpoint& checkpoint, const ServerHalf& model,
                                 const EncryptedInputs& inputs, std::size_t batch)
    : checkpoint_(checkpoint), provenance_(inputs.provenance), inputs_(inputs_digest(inputs)) {
  if (!(checkpoint.seconds >= 0 && checkpoint.seconds <= 1e9)) {
    throw Error(ErrorCode::invalid_argument,
                fmt::format("checkpoints every {} seconds were asked for", checkpoint.seconds),
                "checkpoint", "a number of seconds from 0 on");
  }
  hooks_.keep = [this](const RunView& run, bool is_interrupted) { keep(run, is_interrupted); };
  next_ = Clock::now() + interval();
  if (!std::filesystem::exists(checkpoint.file)) return;
  RunState state = load_checkpoint(checkpoint.file, provenance_, inputs_);
  check_state(state, model.spec.circuit, model.spec.plan.big_dimension(), batch,
              fmt::format("file '{}'", checkpoint.file));
  hooks_.start = std::move(state);
}

CheckpointedRun::Clock::duration CheckpointedRun::interval() const {
  return std::chrono::duration_cast<Clock::duration>(
      std::chrono::duration<double>(checkpoint_.seconds));
}

void CheckpointedRun::keep(const RunView& run, bool is_interrupted) {
  const Clock::time_point start = Clock::now();
  if (!is_interrupted && start < next_) return;
  save_checkpoint(run, provenance_, inputs_, checkpoint_.file);
  const Clock::time_point end = Clock::now();
  next_ = end + std::max(interval(), kShareOfTime * (end - start));
}

void CheckpointedRun::finish() const {
  std::error_code ignored;
  if (checkpoint_.remove_at_end) std::filesystem::remove(checkpoint_.file, ignored);
}

}  // namespace torusml
