// From the decoded file to a FloatGraph as it was written: names checked, nodes sorted, unused ones
// left out. Shapes, folding and the batch axis come afterwards (normalize.h).
#pragma once

#include <map>
#include <string>

#include "importer/float_graph.h"
#include "importer/onnx_proto.h"
#include "importer/onnx_tensor.h"

namespace torusml {

inline constexpr std::int64_t kMinOpset = 11, kMaxOpset = 28;

struct WrittenGraph {
  FloatGraph graph;             // shapes are empty; the inputs' first axis is the traced batch
  bool symbolic_batch = false;  // then the first axis is 1
  std::map<std::string, int> element_types;  // OnnxType of initializers and inputs
};

// `has_factory`: operators that are not in the table are kept, for a factory to take them over.
// Errors: invalid_model, file_version, unsupported_operator, dynamic_shape, not_supported,
// read_tensor's.
WrittenGraph read_graph(const OnnxModel& model, const ExternalFiles& files, const std::string& file,
                        bool has_factory);

// "2 operators are not supported: Softmax (node 'a'), ..." with the list of those that are.
// Error unsupported_operator.
[[noreturn]] void throw_unsupported(const std::vector<std::string>& nodes, const std::string& file);

}  // namespace torusml
