#include "importer/shape_run.h"

#include <fmt/format.h>

#include <algorithm>
#include <list>

#include "importer/onnx_tensor.h"
#include "importer/operators.h"
#include "torusml/error.h"

namespace torusml {
namespace {

// Of a tensor that depends on the input. Each element becomes a ciphertext of some kilobytes, so no
// network that can be run has as many; a file of a hundred bytes can name more than memory holds.
constexpr std::size_t kMaxActivations = std::size_t{1} << 24;

std::size_t checked_activations(const Shape& shape, const std::string& tensor) {
  const std::size_t elements = checked_elements(shape);
  if (elements <= kMaxActivations) return elements;
  throw Error(ErrorCode::not_supported,
              fmt::format("tensor '{}' of shape {} has {} elements, at most {} can be encrypted",
                          tensor, to_string(shape), elements, kMaxActivations),
              "", "a smaller input");
}

}  // namespace

ShapeRun::ShapeRun(const FloatGraph& graph, std::int64_t batch) : graph_(graph) {
  for (const GraphInput& input : graph.inputs) {
    Known& known = dependent_[input.name] = {input.shape, input.type};
    known.shape[0] = batch;
  }
}

bool ShapeRun::is_constant(const std::string& tensor) const {
  return tensor.empty() || !dependent_.count(tensor);
}

bool ShapeRun::are_constant(const FloatNode& node) const {
  return std::all_of(node.inputs.begin(), node.inputs.end(),
                     [this](const auto& name) { return is_constant(name); });
}

const FloatTensor& ShapeRun::value(const std::string& tensor) const {
  const auto found = graph_.constants.find(tensor);
  return found != graph_.constants.end() ? found->second : values_.at(tensor);
}

const Shape& ShapeRun::shape(const std::string& tensor) const {
  const auto found = dependent_.find(tensor);
  return found != dependent_.end() ? found->second.shape : value(tensor).values.shape;
}

FloatTensor ShapeRun::result_of(const FloatNode& node) const {
  Operands operands;
  std::list<FloatTensor> dummies;
  for (const std::string& name : node.inputs) {
    if (name.empty()) {
      operands.push_back(nullptr);
    } else if (is_constant(name)) {
      operands.push_back(&value(name));
    } else {
      const Known& known = dependent_.at(name);
      const double filling = known.type == ElementType::floating ? 0.5 : 1;
      const std::vector<double> values(checked_activations(known.shape, name), filling);
      dummies.push_back({known.type, {known.shape, values}});
      operands.push_back(&dummies.back());
    }
  }
  return std::move(evaluate_node(node, operands).front());
}

void ShapeRun::run(const FloatNode& node) {
  FloatTensor result = result_of(node);
  const std::string& output = node.outputs.front();
  if (are_constant(node)) {
    values_[output] = std::move(result);
  } else {
    dependent_[output] = {std::move(result.values.shape), result.type};
  }
}

}  // namespace torusml
