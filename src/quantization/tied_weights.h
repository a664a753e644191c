// The free numbers of a linear map: those of a matrix, or of a convolution's kernel, whatever the
// places at which each stands.
//
//   std::optional<TiedWeights> tied = tie_weights(map, {1, 8, 6, 6});
//   map.with_integers(tied->entries(integers));
//
// A channel is a row of a matrix, or an output channel of a convolution; it computes the same sum
// of `parameters` numbers at each of `positions` places, of different elements of the operand.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "quantization/float_map.h"
#include "torusml/tensor.h"

namespace torusml {

struct TiedWeights {
  // Channels that read the same elements.
  struct Pattern {
    std::vector<std::int64_t> channels;
    std::vector<std::int64_t> column;  // positions x parameters; -1: nothing there
  };

  std::int64_t channels = 0, parameters = 0, positions = 0;
  std::vector<double> value;               // channels x parameters
  std::vector<Pattern> patterns;           // every channel is in one
  std::vector<std::int64_t> element;       // channels x positions: the row of the map
  std::vector<std::int64_t> parameter_of;  // of the map's entries, in `value`; -1: no weight

  // Integers of channels x parameters, in the places of the map's entries.
  std::vector<std::int64_t> entries(const std::vector<std::int64_t>& integers) const;
  // One number a channel, for each row of the map.
  std::vector<double> by_element(const std::vector<double>& by_channel) const;
};

// shape: of the map's result, with a batch axis. None for a map that is neither a matrix nor one
// convolution (two that were folded into one, say).
std::optional<TiedWeights> tie_weights(const FloatMap& map, const Shape& shape);

}  // namespace torusml
