#include "quantization/calibration.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "torusml/error.h"
#include "torusml/quantizer.h"

namespace torusml {
namespace {

// Below this width values count as constant, as for quantizers.
constexpr double kConstantWidth = 1e-6;

std::string where(const GraphInput& input) { return fmt::format("input '{}'", input.name); }

void check_shape(const GraphInput& input, const Tensor<double>& data) {
  if (std::ranges::find(input.shape, 0) != input.shape.end() || input.shape.empty()) {
    throw Error(ErrorCode::wrong_shape,
                fmt::format("the model's input has shape {}, which has no elements",
                            to_string(input.shape)),
                where(input));
  }
  const bool same_rank = data.shape.size() == input.shape.size();
  if (!same_rank ||
      !std::equal(input.shape.begin() + 1, input.shape.end(), data.shape.begin() + 1)) {
    throw Error(ErrorCode::wrong_shape,
                fmt::format("calibration data has shape {}, the model takes {} "
                            "with any number of "
                            "samples as its first axis",
                            to_string(data.shape), to_string(input.shape)),
                where(input), "one row per sample");
  }
  if (data.shape[0] == 0) {
    throw Error(ErrorCode::empty_calibration, "calibration data has no sample", where(input),
                "some hundred typical inputs");
  }
  if (number_of_elements(data.shape) != static_cast<std::int64_t>(data.data.size())) {
    throw Error(ErrorCode::wrong_shape,
                fmt::format("calibration data has {} values for its shape {}", data.data.size(),
                            to_string(data.shape)),
                where(input));
  }
}

}  // namespace

void check_calibration(const FloatGraph& graph, const std::vector<Tensor<double>>& calibration) {
  if (calibration.empty() && !graph.inputs.empty()) {
    throw Error(ErrorCode::empty_calibration, "there is no calibration data", "",
                "one tensor per input, some hundred typical samples");
  }
  if (calibration.size() != graph.inputs.size()) {
    throw Error(ErrorCode::wrong_shape,
                fmt::format("calibration data for {} inputs, the model has {}", calibration.size(),
                            graph.inputs.size()));
  }
  for (std::size_t i = 0; i < calibration.size(); ++i) {
    const Tensor<double>& data = calibration[i];
    check_shape(graph.inputs[i], data);
    if (data.shape[0] != calibration[0].shape[0]) {
      throw Error(ErrorCode::wrong_shape,
                  fmt::format("calibration data has {} samples, that of input '{}' has {}",
                              data.shape[0], graph.inputs[0].name, calibration[0].shape[0]),
                  where(graph.inputs[i]));
    }
    for (std::size_t e = 0; e < data.data.size(); ++e) {
      if (!std::isfinite(data.data[e])) {
        throw Error(ErrorCode::non_finite_value,
                    fmt::format("element {} of the calibration data is {}", e, data.data[e]),
                    where(graph.inputs[i]));
      }
    }
  }
}

void check_not_constant(const FloatGraph& graph, const std::vector<Tensor<double>>& calibration) {
  for (std::size_t i = 0; i < calibration.size(); ++i) {
    const MinMaxQuantizationStats stats = min_max_stats(calibration[i].data);
    if (stats.rmax - stats.rmin >= kConstantWidth) continue;
    throw Error(ErrorCode::constant_calibration,
                fmt::format("every value of the calibration data is {}", stats.rmax),
                where(graph.inputs[i]), "calibration data that covers the inputs to come");
  }
}

}  // namespace torusml
