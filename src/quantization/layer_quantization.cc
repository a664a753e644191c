#include "quantization/layer_quantization.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <span>

#include "quantization/tied_weights.h"
#include "quantization/weight_quantization.h"
#include "torusml/error.h"

namespace torusml {
namespace {

// float32 scales that are meant to be in integer ratio are so to this
// precision.
constexpr double kRatioTolerance = 1e-5;

double scale_of(const UniformQuantizer& quantizer) { return quantizer.parameters().scale[0]; }

std::vector<std::int64_t> rounded(const std::vector<double>& values, double factor) {
  std::vector<std::int64_t> integers;
  integers.reserve(values.size());
  for (double value : values)
    integers.push_back(static_cast<std::int64_t>(std::nearbyint(value * factor)));
  return integers;
}

bool is_whole(double ratio) {
  const double whole = std::nearbyint(ratio);
  return std::abs(ratio - whole) <= kRatioTolerance * whole;
}

std::vector<std::int64_t> signs(const std::vector<double>& values) {
  std::vector<std::int64_t> integers;
  for (double value : values) integers.push_back(value < 0 ? -1 : 1);
  return integers;
}

QuantizedLayer begin(const LinearLayer& layer, const Shape& shape,
                     const std::vector<UniformQuantizer>& quantizers) {
  QuantizedLayer result;
  result.name = layer.name;
  result.output = layer.output;
  result.shape = shape;
  for (std::size_t i = 0; i < layer.terms.size(); ++i)
    result.operands.push_back({layer.terms[i].tensor, quantizers[i], {}});
  return result;
}

// Where fewer weights meet the operand at the border of an image, what its zero point adds differs
// by place. The accumulators then leave it out, as if padded places held the zero point, so that
// all places of a channel have the same table.
void take_off_zeros(QuantizedLayer& result) {
  const bool differs_by_place = result.shape.size() > 2 &&
                                static_cast<std::int64_t>(result.zero.size()) > result.shape.back();
  if (!differs_by_place) return;
  result.integer_bias = std::move(result.zero);
  for (std::int64_t& bias : result.integer_bias) bias = -bias;
  result.zero = {0};
}

// What the operands' zero points add to the accumulators; and the float bias.
QuantizedLayer finish(QuantizedLayer result, const LinearLayer& layer) {
  result.zero.assign(layer.bias.size(), 0);
  for (std::size_t i = 0; i < layer.terms.size(); ++i) {
    const std::int64_t zero_point = result.operands[i].quantizer.parameters().zero_point[0];
    if (zero_point == 0) continue;
    const std::vector<std::int64_t> x(static_cast<std::size_t>(layer.terms[i].map.inputs()),
                                      zero_point);
    apply_weight(result.operands[i].weight, x.data(), static_cast<std::int64_t>(x.size()),
                 result.zero.data(), static_cast<std::int64_t>(result.zero.size()));
  }
  result.bias = layer.bias;
  compress(result.zero, result.shape);
  take_off_zeros(result);
  compress(result.bias, result.shape);
  compress(result.scale, result.shape);
  return result;
}

// What one unit of the accumulators is worth where matrices of several operands are added: their
// largest product of weight and scale has the bits of a weight.
double common_step(const LinearLayer& layer, const std::vector<UniformQuantizer>& quantizers,
                   int weight_bits) {
  double largest = 0;
  for (std::size_t i = 0; i < layer.terms.size(); ++i) {
    if (layer.terms[i].map.shared_magnitude()) continue;
    for (double value : layer.terms[i].map.value)
      largest = std::max(largest, std::abs(value * scale_of(quantizers[i])));
  }
  const double levels = std::max(1.0, std::ldexp(1.0, weight_bits - 1) - 1);
  return largest / levels;
}

void quantize_together(QuantizedLayer& result, const LinearLayer& layer,
                       const std::vector<UniformQuantizer>& quantizers, int weight_bits) {
  double step = common_step(layer, quantizers, weight_bits);
  if (step == 0) step = std::abs(scale_of(quantizers[0]));  // matrices of zeros
  for (std::size_t i = 0; i < layer.terms.size(); ++i) {
    const FloatMap& map = layer.terms[i].map;
    result.operands[i].weight =
        map.with_integers(rounded(map.value, scale_of(quantizers[i]) / step));
  }
  result.scale = {step};
}

// Operands whose steps are multiples of the smallest.
void add_up(QuantizedLayer& result, const LinearLayer& layer,
            const std::vector<UniformQuantizer>& quantizers) {
  double step = HUGE_VAL;
  for (std::size_t i = 0; i < layer.terms.size(); ++i)
    step = std::min(step, scale_of(quantizers[i]) * *layer.terms[i].map.shared_magnitude());
  for (std::size_t i = 0; i < layer.terms.size(); ++i) {
    const FloatMap& map = layer.terms[i].map;
    const double units = scale_of(quantizers[i]) * *map.shared_magnitude() / step;
    if (!is_whole(units)) {
      throw Error(ErrorCode::not_supported,
                  fmt::format("operand '{}' of a sum has a step of {} times that of another, not a "
                              "whole number",
                              layer.terms[i].tensor, units),
                  fmt::format("layer '{}'", layer.name),
                  "a function (Relu) or a linear layer before the sum");
    }
    result.operands[i].weight =
        map.with_integers(rounded(map.value, scale_of(quantizers[i]) / step));
  }
  result.scale = {step};
}

// The least of the values is the least integer.
UniformQuantizer with_scale(double scale, const std::vector<double>& values, int bits) {
  const MinMaxQuantizationStats range = min_max_stats(values);
  const QuantizationOptions options{.n_bits = bits, .is_signed = range.rmin < 0};
  const std::int64_t offset = options.is_signed ? std::int64_t{1} << (bits - 1) : 0;
  const double zero_point = std::nearbyint(-range.rmin / scale - static_cast<double>(offset));
  return {options, {{scale}, {static_cast<std::int64_t>(zero_point)}, offset}};
}

SparseWeight recorded_weight(const LinearLayer& layer, const RecordedLinear& recorded, int input,
                             std::int64_t rows, std::int64_t columns) {
  std::map<std::pair<std::int64_t, std::int64_t>, std::int64_t> entries;
  for (const RecordedLinear::Term& term : recorded.terms) {
    if (term.input != input) continue;
    bool fits = term.rows == rows && term.columns == columns &&
                term.row.size() == term.value.size() && term.column.size() == term.value.size();
    for (std::size_t e = 0; fits && e < term.value.size(); ++e) {
      fits =
          term.row[e] >= 0 && term.row[e] < rows && term.column[e] >= 0 && term.column[e] < columns;
      if (fits) entries[{term.row[e], term.column[e]}] += term.value[e];
    }
    if (!fits) {
      throw Error(ErrorCode::invalid_argument,
                  fmt::format("a custom operator recorded a map of {} x {} for "
                              "{} accumulators and "
                              "{} elements of input {}, or entries beyond it",
                              term.rows, term.columns, rows, columns, input),
                  fmt::format("layer '{}'", layer.name));
    }
  }
  SparseRows sparse(columns);
  auto entry = entries.begin();
  for (std::int64_t row = 0; row < rows; ++row) {
    for (; entry != entries.end() && entry->first.first == row; ++entry) {
      if (entry->second == 0) continue;
      sparse.add(entry->first.second, entry->second);
    }
    sparse.end_row();
  }
  return sparse.finish();
}

// The smallest step of operands whose quantizers are given.
double fixed_step(const LinearLayer& layer, const std::vector<bool>& free,
                  const std::vector<UniformQuantizer>& quantizers) {
  double step = 0;
  for (std::size_t i = 0; i < quantizers.size(); ++i) {
    if (free[i]) continue;
    const double own = scale_of(quantizers[i]) * *layer.terms[i].map.shared_magnitude();
    step = step == 0 ? own : std::min(step, own);
  }
  return step;
}

}  // namespace

bool is_sum(const LinearLayer& layer) {
  return layer.terms.size() > 1 && std::ranges::all_of(layer.terms, [](const FloatTerm& term) {
           return term.map.shared_magnitude().has_value();
         });
}

std::vector<UniformQuantizer> sum_quantizers(const LinearLayer& layer,
                                             const std::vector<std::vector<double>>& values,
                                             int bits) {
  const double levels = std::ldexp(1.0, bits) - 1;
  double widest = 0, largest = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    const double factor = *layer.terms[i].map.shared_magnitude();
    const MinMaxQuantizationStats range = min_max_stats(values[i]);
    widest = std::max(widest, (range.rmax - range.rmin) * factor);
    largest = std::max(largest, std::abs(range.rmax) * factor);
  }
  // Operands that are all constant keep the largest of them exactly.
  const double step = widest > 0 ? widest / levels : (largest > 0 ? largest : 1);
  std::vector<UniformQuantizer> quantizers;
  for (std::size_t i = 0; i < values.size(); ++i) {
    quantizers.push_back(
        with_scale(step / *layer.terms[i].map.shared_magnitude(), values[i], bits));
  }
  return quantizers;
}

bool are_in_ratio(const std::vector<UniformQuantizer>& quantizers) {
  double step = HUGE_VAL;
  for (const UniformQuantizer& quantizer : quantizers) step = std::min(step, scale_of(quantizer));
  return std::ranges::all_of(quantizers, [&](const UniformQuantizer& quantizer) {
    return is_whole(scale_of(quantizer) / step);
  });
}

void align_moves(const LinearLayer& layer, const std::vector<std::vector<double>>& values,
                 const std::vector<bool>& free, int weight_bits,
                 std::vector<UniformQuantizer>& quantizers) {
  if (layer.custom || layer.terms.size() < 2) return;
  const double step = is_sum(layer) ? fixed_step(layer, free, quantizers)
                                    : common_step(layer, quantizers, weight_bits);
  for (std::size_t i = 0; i < quantizers.size() && step > 0; ++i) {
    const std::optional<double> magnitude = layer.terms[i].map.shared_magnitude();
    if (!magnitude || !free[i]) continue;
    // Never finer than the quantizer was, so that no value is clipped.
    const double units = std::ceil(std::abs(scale_of(quantizers[i])) * *magnitude / step - 1e-9);
    quantizers[i] =
        with_scale(units * step / *magnitude, values[i], quantizers[i].options().n_bits);
  }
}

void follow_others_where_zero(const std::vector<std::vector<double>>& values,
                              const std::vector<bool>& free,
                              std::vector<UniformQuantizer>& quantizers) {
  const auto is_zero = [](const std::vector<double>& of_operand) {
    return std::ranges::all_of(of_operand, [](double v) { return v == 0; });
  };
  double finest = HUGE_VAL;
  for (std::size_t i = 0; i < quantizers.size(); ++i) {
    if (!is_zero(values[i])) finest = std::min(finest, scale_of(quantizers[i]));
  }
  for (std::size_t i = 0; i < quantizers.size() && finest < HUGE_VAL; ++i) {
    if (free[i] && is_zero(values[i]))
      quantizers[i] = with_scale(finest, values[i], quantizers[i].options().n_bits);
  }
}

QuantizedLayer quantize_layer(const LinearLayer& layer, const Shape& shape,
                              const std::vector<UniformQuantizer>& quantizers, int weight_bits) {
  QuantizedLayer result = begin(layer, shape, quantizers);
  const std::optional<double> magnitude = layer.terms[0].map.shared_magnitude();
  if (is_sum(layer) || (layer.terms.size() == 1 && magnitude)) {
    add_up(result, layer, quantizers);
  } else if (layer.terms.size() > 1) {
    quantize_together(result, layer, quantizers, weight_bits);
  } else if (const auto magnitudes = layer.terms[0].map.magnitude_of_rows()) {
    const FloatMap& map = layer.terms[0].map;
    result.operands[0].weight = map.with_integers(signs(map.value));
    result.scale = *magnitudes;
    for (double& scale : result.scale) scale *= scale_of(quantizers[0]);
  } else {
    const FloatMap& map = layer.terms[0].map;
    IntegerWeights weights = quantize_weights(map.to_scale(), weight_bits, map.counts_to_scale());
    if (!map.weights.empty()) weights.integers = rounded(map.value, 1 / weights.scale);
    result.operands[0].weight = map.with_integers(std::move(weights.integers));
    result.scale = {scale_of(quantizers[0]) * weights.scale};
  }
  return finish(std::move(result), layer);
}

QuantizedLayer quantize_layer_by_channel(const LinearLayer& layer, const Shape& shape,
                                         const std::vector<UniformQuantizer>& quantizers,
                                         int weight_bits, bool has_one_step, bool least_error) {
  const FloatMap& map = layer.terms[0].map;
  if (layer.terms.size() > 1 || map.shared_magnitude() || map.magnitude_of_rows())
    return quantize_layer(layer, shape, quantizers, weight_bits);
  const double unit = scale_of(quantizers[0]);
  const std::optional<TiedWeights> tied = tie_weights(map, shape);
  if (!tied) {
    const IntegerWeights weights =
        quantize_symmetric(map.to_scale(), weight_bits, least_error, map.counts_to_scale());
    QuantizedLayer result = begin(layer, shape, quantizers);
    result.operands[0].weight = map.with_integers(rounded(map.value, 1 / weights.scale));
    result.scale = {unit * weights.scale};
    return finish(std::move(result), layer);
  }
  std::vector<std::int64_t> integers;
  std::vector<double> scale;
  const std::int64_t groups = has_one_step ? 1 : tied->channels;
  const auto length = tied->value.size() / static_cast<std::size_t>(groups);
  for (std::int64_t group = 0; group < groups; ++group) {
    const std::span<const double> own(tied->value.data() + static_cast<std::size_t>(group) * length,
                                      length);
    const IntegerWeights weights = quantize_symmetric(own, weight_bits, least_error);
    integers.insert(integers.end(), weights.integers.begin(), weights.integers.end());
    scale.push_back(unit * weights.scale);
  }
  scale.resize(static_cast<std::size_t>(tied->channels), scale[0]);
  const std::vector<double> no_shift(layer.bias.size(), 0.0);
  return fitted_layer(layer, shape, quantizers[0], tied->entries(integers), tied->by_element(scale),
                      no_shift);
}

QuantizedLayer fitted_layer(const LinearLayer& layer, const Shape& shape,
                            const UniformQuantizer& quantizer, std::vector<std::int64_t> integers,
                            std::vector<double> scale, const std::vector<double>& shift) {
  QuantizedLayer result = begin(layer, shape, {quantizer});
  result.operands[0].weight = layer.terms[0].map.with_integers(std::move(integers));
  result.scale = std::move(scale);
  LinearLayer shifted{layer.name, layer.output, layer.terms, layer.bias};
  for (std::size_t e = 0; e < shift.size(); ++e) shifted.bias[e] += shift[e];
  return finish(std::move(result), shifted);
}

QuantizedLayer own_layer(const LinearLayer& layer, const Shape& shape,
                         const std::vector<UniformQuantizer>& quantizers) {
  QuantizedLayer result = begin(layer, shape, quantizers);
  std::vector<double> scales;
  for (const UniformQuantizer& quantizer : quantizers) scales.push_back(scale_of(quantizer));
  const double step = *std::ranges::min_element(scales);
  for (std::size_t i = 0; i < layer.terms.size(); ++i) {
    const double ratio = std::nearbyint(scales[i] / step);
    if (std::abs(scales[i] / step - ratio) > kRatioTolerance * ratio) {
      throw Error(ErrorCode::not_supported,
                  fmt::format("the operands of a sum are quantized with the scales {}, "
                              "which are "
                              "not in integer ratio",
                              fmt::join(scales, " and ")),
                  fmt::format("layer '{}'", layer.name),
                  "one quantizer (QuantIdentity) shared by all operands of the sum");
    }
    const FloatMap& map = layer.terms[i].map;
    result.operands[i].weight = map.with_integers(rounded(map.value, ratio));
  }
  result.scale = layer.row_scale;
  for (double& scale : result.scale) scale *= step;
  return finish(std::move(result), layer);
}

QuantizedLayer custom_layer(const LinearLayer& layer, const FloatGraph& graph,
                            const std::vector<UniformQuantizer>& quantizers) {
  QuantizedLayer result = begin(layer, {}, quantizers);
  result.custom = layer.custom;
  for (const UniformQuantizer& q : quantizers) {
    result.custom_inputs.push_back({q.parameters().scale, q.parameters().zero_point,
                                    q.options().n_bits, q.options().is_signed});
  }
  RecordedLinear recorded = layer.custom->record(result.custom_inputs);
  const std::int64_t elements = number_of_elements(recorded.shape);
  const Shape& output = graph.shapes.at(layer.output);
  const bool inputs_fit =
      std::ranges::all_of(recorded.terms, [&](const RecordedLinear::Term& term) {
        return term.input >= 0 && term.input < static_cast<int>(quantizers.size());
      });
  if (recorded.shape.empty() || recorded.shape[0] != 1 || elements != number_of_elements(output) ||
      !inputs_fit ||
      (!recorded.bias.empty() && static_cast<std::int64_t>(recorded.bias.size()) != elements)) {
    throw Error(ErrorCode::invalid_argument,
                fmt::format("a custom operator recorded accumulators of shape {} with {} "
                            "biases "
                            "for an output of shape {}, or an input that it does not have",
                            to_string(recorded.shape), recorded.bias.size(), to_string(output)),
                fmt::format("layer '{}'", layer.name));
  }
  for (std::size_t i = 0; i < quantizers.size(); ++i) {
    const std::int64_t columns = number_of_elements(graph.shapes.at(layer.terms[i].tensor));
    result.operands[i].weight =
        recorded_weight(layer, recorded, static_cast<int>(i), elements, columns);
  }
  result.shape = std::move(recorded.shape);
  result.integer_bias = std::move(recorded.bias);
  return result;
}

}  // namespace torusml
