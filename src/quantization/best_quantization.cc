#include "quantization/best_quantization.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <random>
#include <utility>

#include "quantization/batch_normalization.h"
#include "quantization/calibration.h"
#include "quantization/fitted_walk.h"
#include "quantization/output_loss.h"
#include "quantization/quantize.h"
#include "torusml/error.h"

namespace torusml {
namespace {

constexpr std::int64_t kLeastDivided = 160;  // samples: fewer are not divided
constexpr std::size_t kMostFitted = 4096, kMostHeld = 1024;

// One output of several elements.
bool is_classifier(const FloatGraph& graph) {
  return graph.outputs.size() == 1 && number_of_elements(graph.shapes.at(graph.outputs[0])) > 1;
}

std::vector<Tensor<double>> rows(const std::vector<Tensor<double>>& data,
                                 const std::vector<std::size_t>& chosen) {
  std::vector<Tensor<double>> result;
  for (const Tensor<double>& tensor : data) {
    const std::size_t length = tensor.data.size() / static_cast<std::size_t>(tensor.shape[0]);
    Tensor<double> some{tensor.shape, {}};
    some.shape[0] = static_cast<std::int64_t>(chosen.size());
    for (const std::size_t row : chosen) {
      const auto first = tensor.data.begin() + static_cast<std::ptrdiff_t>(row * length);
      some.data.insert(some.data.end(), first, first + static_cast<std::ptrdiff_t>(length));
    }
    result.push_back(std::move(some));
  }
  return result;
}

// Every output's elements of a sample, one output after the other.
std::vector<double> side_by_side(const std::vector<std::vector<double>>& outputs,
                                 std::size_t samples) {
  std::vector<double> result;
  for (std::size_t s = 0; s < samples; ++s) {
    for (const std::vector<double>& output : outputs) {
      const auto length = static_cast<std::ptrdiff_t>(output.size() / samples);
      const auto first = output.begin() + static_cast<std::ptrdiff_t>(s) * length;
      result.insert(result.end(), first, first + length);
    }
  }
  return result;
}

OutputLoss loss_on(const FloatGraph& graph, const std::vector<Tensor<double>>& inputs) {
  const std::map<std::string, FloatTensor> values = evaluate(graph, inputs);
  std::vector<std::vector<double>> outputs;
  for (const std::string& name : graph.outputs) outputs.push_back(values.at(name).values.data);
  const std::int64_t samples = inputs[0].shape[0];
  return {side_by_side(outputs, static_cast<std::size_t>(samples)), samples, is_classifier(graph)};
}

Eigen::ArrayXXf outputs_of(const QuantizedGraph& quantized,
                           const std::vector<Tensor<double>>& inputs, const OutputLoss& loss) {
  return loss.to_array(side_by_side(evaluate_quantized(quantized, inputs),
                                    static_cast<std::size_t>(loss.samples())));
}

}  // namespace

QuantizedGraph quantize_best(FloatGraph graph, const std::vector<Tensor<double>>& calibration,
                             const QuantizationRequest& request, const ProgressCallback& progress) {
  const std::int64_t samples = calibration[0].shape[0];
  if (samples < kLeastSamples) {
    throw Error(ErrorCode::calibration_too_small,
                fmt::format("method best fits integers to {} calibration samples; it needs {}",
                            samples, kLeastSamples),
                "calibration", "some hundred typical samples, or method mse");
  }
  fold_batch_normalization(graph);
  std::vector<std::size_t> order(static_cast<std::size_t>(samples));
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::mt19937_64 random(request.seed);
  for (std::size_t i = 0; i + 1 < order.size(); ++i)
    std::swap(order[i], order[i + random() % (order.size() - i)]);
  const bool is_divided = samples >= kLeastDivided;
  const std::size_t held = is_divided ? std::min(order.size() / 5, kMostHeld) : 0;
  std::vector<std::size_t> fitted_on(order.begin() + static_cast<std::ptrdiff_t>(held),
                                     order.end());
  fitted_on.resize(std::min(fitted_on.size(), kMostFitted));
  const std::vector<Tensor<double>> inputs = rows(calibration, fitted_on);
  const std::vector<Tensor<double>> others =
      is_divided
          ? rows(calibration, {order.begin(), order.begin() + static_cast<std::ptrdiff_t>(held)})
          : inputs;
  check_not_constant(graph, inputs);

  std::vector<QuantizedGraph> found =
      FittedWalk(graph, inputs, request).run_best(loss_on(graph, inputs), progress);
  QuantizationRequest simple = request;
  simple.method = QuantizationMethod::mse;
  if (request.accumulator_bits == 0) found.push_back(LayerWalk(graph, inputs, simple).run());
  OutputLoss loss = loss_on(graph, others);
  loss.relate_to(outputs_of(found[0], others, loss));
  std::vector<double> losses;
  for (const QuantizedGraph& quantized : found)
    losses.push_back(loss.of(outputs_of(quantized, others, loss)));
  const auto least = std::ranges::min_element(losses) - losses.begin();
  return std::move(found[static_cast<std::size_t>(least)]);
}

}  // namespace torusml
