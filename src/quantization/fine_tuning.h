// Integers, steps and shifts of a chain of layers, moved one by one while the network's output
// comes nearer to the float network's.
//
//   fine_tune(stages, inputs, loss, {.passes = 4}, progress);
//
// A stage is a layer and the table behind it, as thresholds. Moves of one channel: a weight by +-1,
// with or without the step and shift that then fit the float network best, or two weights at once;
// its shift; its step. A move is kept if the loss of the outputs falls. What a move changes is
// carried through the stages behind it, no more. Greedy, in a fixed order, and again from shaken
// weights: the same result under a seed.
//
// Cost: passes * moves * samples * what hangs on a channel. Stages of which a pass would take more
// than `most_work` are left as they are.
#pragma once

#include <Eigen/Core>
#include <cstdint>
#include <vector>

#include "quantization/output_loss.h"
#include "quantization/tied_weights.h"
#include "torusml/progress.h"

namespace torusml {

struct TunedStage {
  TiedWeights tied;
  std::vector<std::int64_t> integers;  // channels x parameters
  std::vector<double> scale, shift;    // by channel: y = scale * accumulator + shift + bias
  std::vector<double> bias;            // by element
  Eigen::ArrayXXf targets;             // of y: samples x elements
  // The operand of the next stage: lowest + how many thresholds of the element y reaches. elements
  // x steps, rising along a row. Empty for the last stage.
  Eigen::ArrayXXf thresholds;
  float lowest = 0;
  // Of the last stage: output = slope * y + offset, by element.
  std::vector<double> slope, offset;

  bool is_last() const { return thresholds.size() == 0; }
};

struct FineTuning {
  int bits = 8;                     // of weights
  int passes = 6;                   // at most; a pass that gains little is the last
  double most_work = 1e10;          // operations of a stage's pass
  double most_work_of_pairs = 1e9;  // of a stage's pass in which weights move in pairs, too
  double most_work_of_all = 1e10;   // of all passes and starts, but for two passes
  // At most: each begins with what is best so far, some weights shaken. Networks of little work
  // only.
  int starts = 4;
  std::uint64_t seed = 0;
  double most_width = 0;  // of a channel's accumulators before a table; 0: any
};

// inputs: the first stage's operand, samples x elements, integers without their zero point. loss:
// it becomes relative to what the stages are now. Returns it. Progress: (done, total) of channels,
// of the passes that may be.
double fine_tune(std::vector<TunedStage>& stages, const Eigen::ArrayXXf& inputs, OutputLoss loss,
                 const FineTuning& options, const ProgressCallback& progress = {});

}  // namespace torusml
