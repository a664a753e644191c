// Where an encrypted run stands between two nodes, so that it can go on from there later.
//
//   RunCheckpoints checkpoints;
//   checkpoints.keep = [&](const RunView& run, bool is_interrupted) { write(run); };
//   checkpoints.start = read();
//   run_encrypted(circuit, plan, keys, inputs, checkpoints, progress, limits);
//
// Bootstraps are deterministic, so a run that goes on gives the same words as one that was never
// interrupted. Thread rule: value types; a view lives as long as the call that it is given to.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "circuit/circuit.h"
#include "plan/plan.h"
#include "tfhe/bootstrap.h"
#include "tfhe/ciphertext.h"
#include "torusml/limits.h"
#include "torusml/progress.h"

namespace torusml {

// A batch is worked on in parts; a part goes through all nodes.
struct RunPosition {
  std::size_t first_sample = 0, samples = 0;  // of the part
  std::size_t next_node = 0;
};

struct RunState {
  RunPosition position;
  std::map<ValueId, LweBatch> values;  // live_values, of the part
  std::vector<LweBatch> outputs;       // of the batch; what is not known yet is 0
};

struct RunView {
  RunPosition position;
  std::map<ValueId, const LweBatch*> values;
  const std::vector<LweBatch>& outputs;
};

struct RunCheckpoints {
  // Called after each node, and, with is_interrupted, when an exception ends the run within
  // `next_node`. What it throws ends the run.
  std::function<void(const RunView& run, bool is_interrupted)> keep;
  std::optional<RunState> start;  // taken by the run
};

// As run_encrypted (executors.h), from checkpoints.start on, which has been checked, where it is
// given.
std::vector<LweBatch> run_encrypted(const Circuit& circuit, const Plan& plan,
                                    std::span<const EvaluationKeys* const> keys,
                                    const std::vector<LweBatch>& inputs,
                                    RunCheckpoints& checkpoints,
                                    const ProgressCallback& progress = {},
                                    const Limits& limits = {},
                                    const std::vector<Tensor<std::int64_t>>& clear = {});

// Encrypted values that nodes before next_node give and it or a later one reads; clear ones are
// computed anew.
std::vector<ValueId> live_values(const Circuit& circuit, std::size_t next_node);

// Error file_corrupt, naming `where`, unless the state is one of a run of so many samples.
void check_state(const RunState& state, const Circuit& circuit, LweDimension dimension,
                 std::size_t batch, const std::string& where);

}  // namespace torusml
