// A linear layer of floats with quantized operands becomes a layer of integers.
#pragma once

#include <vector>

#include "quantization/linear_layers.h"
#include "quantization/quantized_graph.h"

namespace torusml {

// A sum of operands, each times one number: its operands are quantized with one
// common scale.
bool is_sum(const LinearLayer& layer);

// Quantizers of a sum's operands under which one unit of each, times its
// factor, is worth the same.
std::vector<UniformQuantizer> sum_quantizers(const LinearLayer& layer,
                                             const std::vector<std::vector<double>>& values,
                                             int bits);

// Each scale is a whole number of times the smallest.
bool are_in_ratio(const std::vector<UniformQuantizer>& quantizers);

// In a layer of matrices and of moves (x + W y, say): new quantizers of the moves' operands, under
// which a unit of theirs is a whole number of units of the quantized matrices. Quantizers that are
// not `free` stay. Other layers are left alone.
void align_moves(const LinearLayer& layer, const std::vector<std::vector<double>>& values,
                 const std::vector<bool>& free, int weight_bits,
                 std::vector<UniformQuantizer>& quantizers);

// Operands that are 0 throughout, as those of ReLUs that never open, say nothing about their step:
// they take the finest of the other operands, which else would be rounded to theirs.
void follow_others_where_zero(const std::vector<std::vector<double>>& values,
                              const std::vector<bool>& free,
                              std::vector<UniformQuantizer>& quantizers);

// After training. `quantizers` are the operands'; those of a sum come from
// sum_quantizers.
QuantizedLayer quantize_layer(const LinearLayer& layer, const Shape& shape,
                              const std::vector<UniformQuantizer>& quantizers, int weight_bits);

// The same with a step for every output channel of a matrix or a convolution (quantization/
// tied_weights.h); one for all where results leave the circuit (`has_one_step`), or the map is
// neither. least_error: steps leave the least squared error of the weights, and may clip. Layers of
// several operands are those of quantize_layer.
QuantizedLayer quantize_layer_by_channel(const LinearLayer& layer, const Shape& shape,
                                         const std::vector<UniformQuantizer>& quantizers,
                                         int weight_bits, bool has_one_step, bool least_error);

// Of one operand, by numbers that are known: integers in the places of the map's entries, what a
// unit of each element's accumulator is worth, and what is added to the layer's bias, by element.
QuantizedLayer fitted_layer(const LinearLayer& layer, const Shape& shape,
                            const UniformQuantizer& quantizer, std::vector<std::int64_t> integers,
                            std::vector<double> scale, const std::vector<double>& shift);

// Weights that are integers already. Error not_supported for a sum of operands
// whose scales are not in integer ratio.
QuantizedLayer own_layer(const LinearLayer& layer, const Shape& shape,
                         const std::vector<UniformQuantizer>& quantizers);

// A user's operator: what it records. Errors: invalid_argument for a record
// that does not fit.
QuantizedLayer custom_layer(const LinearLayer& layer, const FloatGraph& graph,
                            const std::vector<UniformQuantizer>& quantizers);

// One entry if all are equal, else one per channel, if they repeat, else as
// they are.
template <class T>
void compress(std::vector<T>& values, const Shape& shape) {
  const auto repeats = [&](std::size_t period) {
    for (std::size_t i = period; i < values.size(); ++i) {
      if (values[i] != values[i - period]) return false;
    }
    return true;
  };
  const auto channels = shape.empty() ? values.size() : static_cast<std::size_t>(shape.back());
  if (values.empty()) return;
  if (repeats(1)) {
    values.erase(values.begin() + 1, values.end());
  } else if (channels < values.size() && repeats(channels)) {
    values.erase(values.begin() + static_cast<std::ptrdiff_t>(channels), values.end());
  }
}

}  // namespace torusml
