// The walk of method best: layers of one matrix or convolution are fitted to the float network, and
// a chain of such layers is tuned on the network's outputs after that.
//
//   FittedWalk walk(graph, inputs, request);
//   std::vector<QuantizedGraph> found = walk.run_best(loss, progress);
//
// Other layers are quantized as the plain walk does it. Cost: seconds to a minute. For one run.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "quantization/fine_tuning.h"
#include "quantization/layer_walk.h"
#include "quantization/output_loss.h"
#include "quantization/reconstruction.h"
#include "quantization/tied_weights.h"

namespace torusml {

class FittedWalk : public LayerWalk {
 public:
  using LayerWalk::LayerWalk;

  // Fitted layer by layer; and, where it can be, with all integers tuned on `loss` after that.
  std::vector<QuantizedGraph> run_best(const OutputLoss& loss, const ProgressCallback& progress);

 private:
  // A layer that was fitted to the float network.
  struct Fitted {
    LinearLayer* layer;
    TiedWeights tied;
    UniformQuantizer quantizer;
    FittedLayer numbers;
    std::vector<double> divisor;  // of its results, by element; empty: 1
  };

  // None for layers that are no matrix or convolution of one operand.
  std::optional<QuantizedLayer> try_fit(LinearLayer& layer) override;
  QuantizedLayer built(const Fitted& fitted) const;
  // Channels of the operand's root may be scaled by any positive factor: only this term sees them,
  // through functions f with f(c x) = c f(x).
  bool can_be_equalized(const FloatTerm& term) const;
  void divide_root(const std::string& root, std::vector<double> divisor);
  // Moves the integers of a chain of fitted layers until the output is nearest to the float
  // network's. False where the layers are no such chain.
  bool tune(const OutputLoss& loss, const ProgressCallback& progress);
  std::optional<TunedStage> stage(const Fitted& fitted);
  // The quantized operand of the layer `next`, as steps of `root`. False where it is not rising.
  bool add_thresholds(TunedStage& stage, const std::string& root, const LinearLayer& next);
  double most_width() const;

  std::map<std::string, Fitted> fitted_;  // by layer output
};

}  // namespace torusml
