// What a node may compute. Operators ask before they take memory or time for their result, since a
// file of a few hundred bytes can name hours of work and more than memory holds.
//
//   y.data.resize(checked_result(y.shape));                             // an operator
//   const ResultLimit limit([&](const Shape& shape) { refuse(shape); });  // who evaluates it
//
// Thread rule: concurrent. A ResultLimit holds for its thread.
#pragma once

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <string>

#include "torusml/tensor.h"

namespace torusml {

// No tensor that the importer computes may be larger: 2 GiB in float64.
inline constexpr std::int64_t kMaxElements = std::int64_t{1} << 28;
// Nor may a node take more multiplications for a sample, which is a second or two.
inline constexpr std::int64_t kMaxProducts = std::int64_t{1} << 32;

// Number of elements, of any shape.
double element_count(const Shape& shape);

// Number of elements. Error not_supported above kMaxElements or on overflow; also of a tensor
// without elements whose other dimensions are as large.
std::int64_t checked_elements(const Shape& shape);
// As checked_elements, of what a node gives and not of what it needs on the way. Errors also those
// of the ResultLimit, which comes first.
std::int64_t checked_result(const Shape& shape);
// Error not_supported above kMaxProducts.
void check_products(std::initializer_list<std::int64_t> factors, const std::string& where = "");

// While it lives, the results of nodes are limited further: `check` throws for a shape that is too
// large. The innermost one counts.
class ResultLimit {
 public:
  explicit ResultLimit(std::function<void(const Shape&)> check);
  ~ResultLimit();
  ResultLimit(const ResultLimit&) = delete;
  ResultLimit& operator=(const ResultLimit&) = delete;

 private:
  friend std::int64_t checked_result(const Shape& shape);

  std::function<void(const Shape&)> check_;
  const ResultLimit* outer_;
};

}  // namespace torusml
