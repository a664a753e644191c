// The compiler: a float network and calibration data become a quantized module, and that a compiled
// model.
//
//   QuantizedModule module = QuantizedModule::build(import_onnx("net.onnx"), {x}, {.bits =
//   QuantizationBits::uniform(3)}); Tensor<double> y =
//   module.dequantize_outputs(module.run_clear(module.quantize_inputs({x})))[0]; CompiledModel
//   model = module.compile({x}, {.precision = Precision::tolerant});
//
// Thread rule: const use is concurrent.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "circuit/circuit.h"
#include "compiler/precision_search.h"
#include "compiler/rounding.h"
#include "importer/float_graph.h"
#include "lowering/lower.h"
#include "plan/compiled_model.h"
#include "quantization/quantized_graph.h"
#include "runtime/executors.h"

namespace torusml {

// The last rewrites, for a plan alone: circuit/idle_lookups.h, and circuit/separate_scales.h, which
// is kept where the plan becomes cheaper.
inline constexpr std::string_view kIdlePass = "remove-idle-lookups";
inline constexpr std::string_view kScalesPass = "separate-scales";

struct CompileHooks {
  // Called with the circuit after each rewrite; the first call is named "lowering".
  std::function<void(std::string_view pass, const Circuit& circuit)> after_pass;
};

class QuantizedModule {
 public:
  // Quantizes and lowers. margin: widening of calibrated intervals, a fraction of their width on
  // each side. rounding: of accumulators before their tables; how many bits that takes from each
  // layer is settled here, by its calibration. Errors: those of quantize() and lower(). Progress:
  // that of quantize().
  static QuantizedModule build(FloatGraph graph, const std::vector<Tensor<double>>& calibration,
                               const QuantizationRequest& request, double margin = 0.05,
                               const std::optional<Rounding>& rounding = std::nullopt,
                               const ProgressCallback& progress = {});

  const FloatGraph& float_graph() const { return quantized_.graph; }
  const QuantizedGraph& quantized_graph() const { return quantized_; }
  const Circuit& circuit() const { return circuit_; }
  const std::vector<InputSpec>& inputs() const {
    return client_.inputs;
  }  // torus fields are set by compile()
  const std::vector<OutputSpec>& outputs() const { return client_.outputs; }
  const std::vector<RangeReport>& ranges() const { return ranges_; }
  // Inputs of these names travel in the clear, all others encrypted, as all do at first. Errors:
  // those of declare_clear() (circuit/circuit.h).
  void declare_clear(const std::vector<std::string>& inputs);

  // What build() was asked for.
  const QuantizationRequest& request() const { return request_; }
  double margin() const { return margin_; }
  const std::map<std::string, int>& removed_bits() const { return removed_bits_; }

  // Floats (batch, shape...) per input to integers, and integers of the outputs to floats.
  std::vector<Tensor<std::int64_t>> quantize_inputs(
      const std::vector<Tensor<double>>& values) const;
  std::vector<Tensor<double>> dequantize_outputs(
      const std::vector<Tensor<std::int64_t>>& integers) const;
  std::vector<Tensor<std::int64_t>> run_clear(
      const std::vector<Tensor<std::int64_t>>& inputs) const;

  // What a linear node of the circuit computes as the integers of the layer that it came from:
  // lowering shifts and scales channels (lowering/channels.h). values: sample after sample.
  std::vector<std::int64_t> layer_integers(const std::string& node,
                                           std::vector<std::int64_t> values) const;

  // Measures ranges on `inputs` anew, for the policy that the options ask for, and plans; where
  // that is automatic, after a search on the same inputs. The module's own circuit becomes the
  // compiled one. Indices of embedding lookups must be clear (not_supported). A rounded module is
  // planned under precision rounded or tolerant, by its method. Errors: those of with_rounding(),
  // lower(), make_plan() and search_precision().
  CompiledModel compile(const std::vector<Tensor<double>>& inputs, const PlanOptions& options,
                        const PrecisionSearch& search = {}, const CompileHooks& hooks = {});

 private:
  void check_indices() const;
  PlanOptions choose(const std::vector<Tensor<double>>& inputs, const PlanOptions& options,
                     const PrecisionSearch& search, const CompileHooks& hooks,
                     std::optional<PrecisionReport>& report);
  // Where these are not exact already, those of the circuit's layers that must be.
  PlanOptions with_exact_nodes(PlanOptions options) const;
  void lower_for(const std::vector<Tensor<double>>& inputs, Precision precision,
                 const CompileHooks& hooks);
  // And with a result for each torus scale where that is cheaper.
  void lower_for_plan(const std::vector<Tensor<double>>& inputs, Precision precision,
                      const PlanOptions& options, const CompileHooks& hooks);

  QuantizedGraph quantized_;
  QuantizationRequest request_;
  double margin_ = 0.05;
  std::optional<Rounding> rounding_;
  std::map<std::string, int> removed_bits_;  // by layer output
  std::set<std::string> exact_nodes_;        // lookups and outputs, by name
  std::vector<std::string> clear_inputs_;
  Circuit circuit_;  // of whole layers
  Circuit planned_;  // as the last plan has it
  ClientSpec client_;
  std::vector<RangeReport> ranges_;
  std::map<std::string, NodeRange> encoded_;  // layers that are shifted or scaled, by name
};

struct CompileOptions {
  QuantizationRequest quantization;
  PlanOptions plan;
  PrecisionSearch search;    // of precision automatic, and of bits
  bool choose_bits = false;  // compiler/bits_search.h; those of the request do not count
  double margin = 0.05;
  CompileHooks hooks;
  std::optional<Rounding> rounding;
  std::vector<std::string> clear_inputs;  // names of inputs that travel in the clear
  ProgressCallback progress;              // of quantization by method best
};

// Replaces the bits of the request by those that a search finds, under the options' own target,
// trials and seed. Errors: those of search_bits.
struct BitsReport;
BitsReport choose_bits(const FloatGraph& graph, const std::vector<Tensor<double>>& calibration,
                       CompileOptions& options, const ProgressCallback& progress = {});

// Quantize, lower, plan. Reproducible to the byte for the same model, calibration and options.
CompiledModel compile_model(FloatGraph graph, const std::vector<Tensor<double>>& calibration,
                            const CompileOptions& options);

}  // namespace torusml
