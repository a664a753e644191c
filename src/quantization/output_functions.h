// Outputs that leave a network as integers of their root, without a table.
#pragma once

#include <optional>
#include <string>

#include "quantization/network.h"
#include "quantization/quantized_graph.h"

namespace torusml {

// output = slope * integer + offset by element; none if it is no such function,
// or if slopes differ so much that one integer grid cannot serve all elements.
std::optional<AffineFunction> function_of_layer(const Network& network, const QuantizedLayer& layer,
                                                const std::string& output);
std::optional<AffineFunction> function_of_input(const Network& network,
                                                const UniformQuantizer& quantizer,
                                                const std::string& output);

}  // namespace torusml
