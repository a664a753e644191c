#include <fmt/format.h>

#include <Eigen/Core>

#include "importer/broadcast.h"
#include "importer/limits.h"
#include "importer/operator_functions.h"
#include "torusml/error.h"

namespace torusml {
namespace {

using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using MatrixView = Eigen::Map<const Matrix>;

[[noreturn]] void throw_product(const Shape& a, const Shape& b) {
  throw Error(ErrorCode::wrong_shape,
              fmt::format("a tensor of shape {} cannot be multiplied with one of shape {}",
                          to_string(a), to_string(b)));
}

void check_numbers(const FloatTensor& tensor) {
  if (tensor.type == ElementType::boolean) {
    throw Error(ErrorCode::wrong_dtype, "operand is boolean, expected numbers");
  }
}

// Which of the matrices of a batch of shape `from` stands at each place of `batch`: repeated
// matrices are not copied, as many small ones make a large tensor.
std::vector<std::int64_t> matrices_at(const Shape& from, const Shape& batch) {
  Tensor<double> numbers{from, {}};
  for (std::int64_t i = 0; i < number_of_elements(from); ++i)
    numbers.data.push_back(static_cast<double>(i));
  const std::vector<double> spread = broadcast_to(numbers, batch);
  return {spread.begin(), spread.end()};
}

}  // namespace

FloatTensor gemm(const FloatNode& node, const Operands& operands) {
  const FloatTensor &a = *operands[0], &b = *operands[1];
  check_numbers(a);
  check_numbers(b);
  if (a.values.shape.size() != 2 || b.values.shape.size() != 2) {
    throw_product(a.values.shape, b.values.shape);
  }
  const bool trans_a = integer_attribute(node, "transA", 0) != 0;
  const bool trans_b = integer_attribute(node, "transB", 0) != 0;
  const MatrixView x(a.values.data.data(), a.values.shape[0], a.values.shape[1]);
  const MatrixView w(b.values.data.data(), b.values.shape[0], b.values.shape[1]);
  const Eigen::Index rows = trans_a ? x.cols() : x.rows(), inner = trans_a ? x.rows() : x.cols();
  const Eigen::Index columns = trans_b ? w.rows() : w.cols();
  if (inner != (trans_b ? w.cols() : w.rows())) throw_product(a.values.shape, b.values.shape);

  FloatTensor result{a.type, {{rows, columns}, {}}};
  result.values.data.resize(checked_result(result.values.shape));
  Eigen::Map<Matrix> y(result.values.data.data(), rows, columns);
  if (trans_a && trans_b) y.noalias() = x.transpose() * w.transpose();
  if (trans_a && !trans_b) y.noalias() = x.transpose() * w;
  if (!trans_a && trans_b) y.noalias() = x * w.transpose();
  if (!trans_a && !trans_b) y.noalias() = x * w;
  y *= number_attribute(node, "alpha", 1);
  if (operands.size() > 2 && operands[2]) {
    const std::vector<double> c = broadcast_to(operands[2]->values, result.values.shape);
    y += number_attribute(node, "beta", 1) * MatrixView(c.data(), rows, columns);
  }
  return result;
}

// NumPy's matmul: vectors are promoted to matrices, leading axes broadcast.
FloatTensor matmul(const FloatNode&, const Operands& operands) {
  const FloatTensor &left = *operands[0], &right = *operands[1];
  check_numbers(left);
  check_numbers(right);
  Shape a = left.values.shape, b = right.values.shape;
  if (a.empty() || b.empty()) throw_product(a, b);
  const bool vector_a = a.size() == 1, vector_b = b.size() == 1;
  if (vector_a) a.insert(a.begin(), 1);
  if (vector_b) b.push_back(1);
  const std::int64_t rows = a[a.size() - 2], inner = a.back(), columns = b.back();
  if (inner != b[b.size() - 2]) throw_product(left.values.shape, right.values.shape);

  const Shape batch_a(a.begin(), a.end() - 2), batch_b(b.begin(), b.end() - 2);
  const Shape batch = broadcast_shape(batch_a, batch_b);
  Shape shape = batch;
  if (!vector_a) shape.push_back(rows);
  if (!vector_b) shape.push_back(columns);
  FloatTensor result{left.type, {shape, std::vector<double>(checked_result(shape))}};
  double* y = result.values.data.data();
  if (batch_b.empty()) {  // one matrix for all: a single product
    const std::int64_t all = number_of_elements(batch) * rows;
    Eigen::Map<Matrix>(y, all, columns).noalias() =
        MatrixView(left.values.data.data(), all, inner) *
        MatrixView(right.values.data.data(), inner, columns);
    return result;
  }
  if (result.values.data.empty()) return result;
  const std::vector<std::int64_t> from_a = matrices_at(batch_a, batch),
                                  from_b = matrices_at(batch_b, batch);
  for (std::size_t i = 0; i < from_a.size(); ++i) {
    Eigen::Map<Matrix>(y + static_cast<std::int64_t>(i) * rows * columns, rows, columns).noalias() =
        MatrixView(left.values.data.data() + from_a[i] * rows * inner, rows, inner) *
        MatrixView(right.values.data.data() + from_b[i] * inner * columns, inner, columns);
  }
  return result;
}

}  // namespace torusml
