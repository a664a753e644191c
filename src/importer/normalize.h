// Makes a graph as it was written into what FloatGraph promises: constants folded, shapes for batch
// 1, and every batch size possible. Walks the graph once with the traced batch, folding and
// rewriting node by node; then measures the shapes, and checks with another batch that samples stay
// apart.
#pragma once

#include "importer/onnx.h"
#include "importer/onnx_graph.h"

namespace torusml {

// Errors: unsupported_operator, not_supported (a node that mixes samples or loses the batch axis,
// an operand that must be constant), and those of evaluate_node.
FloatGraph normalize(WrittenGraph written, const std::string& file,
                     const CustomOperatorFactory& factory);

}  // namespace torusml
