// Reads ONNX models, opset 11 to 28: PyTorch's exports (old and new exporter), Brevitas QONNX and
// QCDQ.
//
//   FloatGraph graph = import_onnx("model.onnx");
//   // TML-E015 unsupported-operator: 2 operators are not supported: Softmax (node 'head'), ...
//
// Weights in external files are read if they lie in the model's folder. The first axis of every
// input is the batch; sizes of it that the exporter baked in are rewritten, so that any batch can
// be evaluated.
//
// Errors: file_unreadable, file_truncated, file_foreign, file_corrupt, file_version (opset),
// invalid_model, unsupported_operator (all offending nodes at once), dynamic_shape,
// path_outside_model_folder, not_supported, wrong_shape and wrong_dtype (nodes whose operands do
// not fit each other), unsupported_bits (of a quantizer). Thread rule: concurrent. Cost: reading,
// and three forward passes of one sample for the shapes.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "importer/custom_operator.h"
#include "importer/float_graph.h"

namespace torusml {

// Asked for every node in topological order, also for operators that the importer does not know; an
// operator in return takes the node over, null leaves it to the importer. `so_far` holds the nodes
// before it, all constants and the shapes of the node's inputs. The node must have one output.
using CustomOperatorFactory = std::function<std::shared_ptr<const CustomOperator>(
    const FloatNode& node, const FloatGraph& so_far)>;

FloatGraph import_onnx(const std::string& path, const CustomOperatorFactory& factory = {});

// `name` stands for the file in errors. External data is refused (path_outside_model_folder).
FloatGraph import_onnx_bytes(std::string_view bytes, const std::string& name,
                             const CustomOperatorFactory& factory = {});

// "Abs", "Add", ..., "onnx.brevitas.Quant": sorted, for messages and documentation.
std::vector<std::string> supported_operators();

}  // namespace torusml
