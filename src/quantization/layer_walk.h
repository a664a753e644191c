// The walk over a float network's linear layers: each is calibrated on what the quantized layers
// before it compute, and becomes a layer of integers.
//
//   QuantizedGraph quantized = LayerWalk(graph, calibration, request).run();
//
// The walk itself is in layer_walk.cc; which quantizer a tensor has, by calibration or from the
// network, is in layer_walk_quantizers.cc. A class that derives from the walk may take single
// layers over (try_fit). Errors: those of quantize (quantization/quantize.h), which checks the
// request. Cost: one pass over the calibration data. For one run.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "quantization/linear_layers.h"
#include "quantization/network.h"
#include "quantization/quantized_graph.h"
#include "quantization/step_rules.h"
#include "torusml/progress.h"
#include "torusml/quantizer.h"

namespace torusml {

inline constexpr int kMaxBits = 32;  // of quantizers

class LayerWalk {
 public:
  // calibration: one tensor per input, (samples, shape...); it must outlive the walk.
  LayerWalk(FloatGraph graph, const std::vector<Tensor<double>>& calibration,
            const QuantizationRequest& request);
  LayerWalk(const LayerWalk&) = delete;
  LayerWalk& operator=(const LayerWalk&) = delete;
  virtual ~LayerWalk() = default;

  QuantizedGraph run();

 protected:
  struct Reader {
    const LinearLayer* layer;
    std::string tensor;
  };

  // The hook: a calibrated layer quantized in another way, which may change the layer and those
  // before it; none: as the walk does it.
  virtual std::optional<QuantizedLayer> try_fit(LinearLayer& layer);

  void run_layers(const ProgressCallback& progress);
  void add_outputs();
  std::vector<Reader> readers_of(const std::string& input) const;
  // A tensor's numbers on the calibration data: what the quantized network
  // computes, or the float network if it brings its quantizers along.
  std::vector<double> values_at(const std::string& tensor);
  // What the float network computes on the calibration data; of roots only.
  const std::vector<double>& float_values(const std::string& root);
  // The layer's float output on the calibration data, from quantized operands.
  FloatTensor compute(const QuantizedLayer& layer,
                      const std::vector<std::vector<double>>& values) const;
  // nullptr for tensors that no input is the root of.
  std::optional<UniformQuantizer>* input_quantizer(const std::string& tensor);
  LayerBits bits_of(const LinearLayer& layer) const;
  // An input whose integers are the operand's own.
  bool is_read_as_input(const std::string& tensor) const;
  bool is_read_later(const std::string& root) const;
  // Accumulators are an output of the circuit, through nothing but scales.
  bool leaves_circuit(const std::string& root) const;

  FloatGraph graph_;
  const StepRules rules_;
  const Network network_;
  const std::vector<Tensor<double>>& calibration_;
  const QuantizationRequest request_;
  const QuantizationBits bits_;
  std::vector<LinearLayer> layers_;
  // Of layers, and of inputs whose integers are not what the layers read.
  std::map<std::string, FloatTensor> root_values_;
  QuantizedGraph result_;

 private:
  enum class Mode { after_training, own_nodes, own_grid };

  bool is_compatible() const { return request_.method == QuantizationMethod::compatible; }

  // The quantizer of an input is that of its readers, if they agree on one.
  // Else the input has its own, and tables behind it. An input that only a sum
  // reads waits for that sum's common scale.
  void quantize_inputs();
  QuantizedLayer quantize(LinearLayer& layer);
  // What rewrites know of the accumulators.
  void set_bounds(const LinearLayer& layer, QuantizedLayer& quantized) const;
  QuantizedLayer with_weights(const LinearLayer& layer,
                              const std::vector<UniformQuantizer>& quantizers,
                              const std::vector<std::vector<double>>& values);
  // The mean error of every channel (axis 1) on the calibration data goes into its bias.
  void correct_bias(QuantizedLayer& quantized, const FloatTensor& found);
  std::vector<UniformQuantizer> quantize_sum(const LinearLayer& layer,
                                             const std::vector<std::vector<double>>& values);
  QuantizedOutput quantize(const std::string& output);
  FloatTensor compute_again(const QuantizedLayer& layer);
  // Sums of the same tensors choose the same step.
  bool read_the_same(const std::vector<Reader>& readers) const;
  UniformQuantizer fit_activation(const std::vector<double>& values, int bits) const;

  // Choice of quantizers: layer_walk_quantizers.cc.
  void check_own_quantizers() const;
  // The tensor whose quantizer another one's is made of; itself but for maxima.
  const std::string& step_giver(const std::string& tensor) const;
  // The quantizer of a tensor, of these values, that has the step of another one's and is not
  // negative.
  UniformQuantizer of_difference(const UniformQuantizer& quantizer,
                                 const std::vector<double>& values) const;
  // Its range goes beyond the rows, so that whoever checks the input's interval finds wrong ones.
  static UniformQuantizer index_quantizer(std::int64_t rows);
  // Operands choose a common step.
  bool chooses_step(const LinearLayer& layer) const;
  // Maxima of one tensor are on that tensor's step, which the other operands can follow.
  bool has_given_step(const LinearLayer& layer) const;
  // The network's own quantizers, whose steps are in integer ratio.
  bool has_own_steps(const LinearLayer& layer) const;
  // By values instead of the network's own quantizers.
  bool is_calibrated(const LinearLayer& layer) const;
  std::optional<UniformQuantizer> shared_own_quantizer(const std::vector<Reader>& readers) const;
  UniformQuantizer grid_or_throw(const std::string& tensor, const std::vector<double>& values,
                                 const std::string& layer) const;
  std::optional<UniformQuantizer> own_or_none(const std::string& tensor) const;
  // And of places in a row, which are their own integers.
  std::optional<UniformQuantizer> own_or_whole(const std::string& tensor) const;
  UniformQuantizer quantizer_of(const std::string& tensor, const std::vector<double>& values,
                                int bits);
  QuantizedLayer quantize_own(const LinearLayer& layer);

  const Mode mode_;
  std::vector<std::optional<UniformQuantizer>> input_quantizers_;
  std::map<std::string, FloatTensor> floats_;
};

}  // namespace torusml
