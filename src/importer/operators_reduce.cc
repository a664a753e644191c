#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "importer/limits.h"
#include "importer/linear_shapes.h"
#include "importer/operator_functions.h"
#include "torusml/error.h"

namespace torusml {
namespace {

// result = last(sum of first(x)), with another operation than a sum where `combine` says so.
struct Kind {
  double (*first)(double);
  double (*combine)(double, double);
  double (*last)(double);
  double start;
};

double same(double x) { return x; }
double plus(double a, double b) { return a + b; }

const Kind& kind_of(const FloatNode& node) {
  static const auto squared = [](double x) { return x * x; };
  static const auto magnitude = [](double x) { return std::abs(x); };
  static const auto root = [](double x) { return std::sqrt(x); };
  static const auto logarithm = [](double x) { return std::log(x); };
  static const auto larger = [](double a, double b) { return std::max(a, b); };
  static const auto smaller = [](double a, double b) { return std::min(a, b); };
  // The larger one taken out, so that nothing overflows.
  static const auto log_of_sum = [](double a, double b) {
    const double high = std::max(a, b);
    return std::isinf(high) ? high : high + std::log1p(std::exp(std::min(a, b) - high));
  };
  static const std::map<std::string, Kind> kinds{
      {"GlobalAveragePool", {same, plus, same, 0}},
      {"ReduceMean", {same, plus, same, 0}},
      {"ReduceSum", {same, plus, same, 0}},
      {"ReduceL1", {magnitude, plus, same, 0}},
      {"ReduceL2", {squared, plus, root, 0}},
      {"ReduceSumSquare", {squared, plus, same, 0}},
      {"ReduceLogSum", {same, plus, logarithm, 0}},
      {"ReduceLogSumExp", {same, log_of_sum, same, -INFINITY}},
      {"ReduceMax", {same, larger, same, -INFINITY}},
      {"ReduceMin", {same, smaller, same, INFINITY}},
  };
  return kinds.at(node.op_type);
}

}  // namespace

FloatTensor reduce(const FloatNode& node, const Operands& operands) {
  const FloatTensor& x = *operands[0];
  if (x.type == ElementType::boolean) {
    throw Error(ErrorCode::wrong_dtype, "operand is boolean, expected numbers");
  }
  if (node.op_type == "GlobalAveragePool" && x.type != ElementType::floating) {
    throw Error(ErrorCode::wrong_dtype, "operand is not of a floating type");
  }
  const Kind& kind = kind_of(node);
  const Reduction reduction = reduction_of(node, operands, x.values.shape);
  FloatTensor result{x.type, {reduction.shape, {}}};
  result.values.data.assign(static_cast<std::size_t>(checked_result(reduction.shape)), kind.start);
  const std::vector<std::int64_t> rows = reduction.rows(x.values.shape);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    double& sum = result.values.data[static_cast<std::size_t>(rows[i])];
    sum = kind.combine(sum, kind.first(x.values.data[i]));
  }
  for (double& value : result.values.data) {
    value = kind.last(value / reduction.divisor);
    if (x.type == ElementType::integer) value = std::trunc(value);
  }
  return result;
}

}  // namespace torusml
