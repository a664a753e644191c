#include "importer/shape_run.h"

#include <fmt/format.h>

#include <algorithm>
#include <list>

#include "importer/limits.h"
#include "importer/operators.h"
#include "torusml/error.h"

namespace torusml {
namespace {

// Of a tensor that depends on the input. Each element becomes a ciphertext of some kilobytes, so no
// network that can be run has as many; a file of a hundred bytes can name more than memory holds.
constexpr std::int64_t kMaxActivations = std::int64_t{1} << 24;
// All results that depend on constants alone have so many elements at most, and so many more for
// each element of the file's own constants.
constexpr std::int64_t kMaxFolded = std::int64_t{1} << 24, kMaxFoldedShare = 16;

void check_activations(const Shape& shape, const std::string& where) {
  const double elements = element_count(shape);
  if (elements <= static_cast<double>(kMaxActivations)) return;
  throw Error(ErrorCode::not_supported,
              fmt::format("a tensor of shape {} has {:.0f} elements, at most {} can be encrypted",
                          to_string(shape), elements, kMaxActivations),
              where, "a smaller input");
}

// Matrices of the second operand of MatMul for each one of the first: where it alone has a batch.
std::int64_t batches_beside(const Shape& a, const Shape& b) {
  std::int64_t batches = 1;
  for (std::size_t from_end = 3; from_end <= b.size(); ++from_end) {
    if (from_end > a.size() || a[a.size() - from_end] == 1) batches *= b[b.size() - from_end];
  }
  return batches;
}

// Gemm and MatMul take batches of any size when a graph is evaluated, so they are checked here, for
// the few samples of these runs.
void check_matrix_product(const FloatNode& node, const Operands& operands) {
  const bool is_gemm = node.op_type == "Gemm";
  if (node.custom || operands.size() < 2 || !node.domain.empty() ||
      (node.op_type != "MatMul" && !is_gemm))
    return;
  const Shape &a = operands[0]->values.shape, &b = operands[1]->values.shape;
  if (a.empty() || b.empty()) return;  // refused by the operator
  const bool is_turned = is_gemm && integer_attribute(node, "transB", 0) != 0;
  const std::int64_t columns = b.size() == 1 ? 1 : is_turned ? b.front() : b.back();
  check_products({number_of_elements(a), columns, is_gemm ? 1 : batches_beside(a, b)},
                 describe(node));
}

}  // namespace

ShapeRun::ShapeRun(const FloatGraph& graph, std::int64_t batch) : graph_(graph) {
  for (const GraphInput& input : graph.inputs) {
    Known& known = dependent_[input.name] = {input.shape, input.type};
    known.shape[0] = batch;
    check_activations(known.shape, fmt::format("input '{}'", input.name));
  }
  most_folded_ = kMaxFolded;
  for (const auto& [name, constant] : graph.constants)
    most_folded_ += kMaxFoldedShare * static_cast<std::int64_t>(constant.values.data.size());
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
      const auto elements = static_cast<std::size_t>(number_of_elements(known.shape));
      const std::vector<double> values(elements, filling);
      dummies.push_back({known.type, {known.shape, values}});
      operands.push_back(&dummies.back());
    }
  }
  check_matrix_product(node, operands);
  return std::move(evaluate_node(node, operands).front());
}

void ShapeRun::check_result(const FloatNode& node, const Shape& shape) const {
  if (!are_constant(node)) return check_activations(shape, describe(node));
  const double folded = static_cast<double>(folded_) + element_count(shape);
  if (folded <= static_cast<double>(most_folded_)) return;
  throw Error(ErrorCode::not_supported,
              fmt::format("results that depend on constants alone have {:.0f} elements up to this "
                          "node, at most {} are kept",
                          folded, most_folded_),
              describe(node), "these results as initializers");
}

void ShapeRun::run(const FloatNode& node) {
  const ResultLimit limit([&](const Shape& shape) { check_result(node, shape); });
  FloatTensor result = result_of(node);
  check_result(node, result.values.shape);  // of operators that do not ask: they enlarge nothing
  const std::string& output = node.outputs.front();
  if (are_constant(node)) {
    folded_ += static_cast<std::int64_t>(result.values.data.size());
    values_[output] = std::move(result);
  } else {
    dependent_[output] = {std::move(result.values.shape), result.type};
  }
}

}  // namespace torusml
