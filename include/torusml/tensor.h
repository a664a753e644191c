// A dense row-major tensor: a value type, copied like a vector.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "torusml/export.h"

namespace torusml {

using Shape = std::vector<std::int64_t>;

template <class T>
struct Tensor {
  Shape shape;
  std::vector<T> data;  // row-major, data.size() == number_of_elements(shape)

  friend bool operator==(const Tensor&, const Tensor&) = default;
};

// Product of the dimensions; 1 for a scalar. Error invalid_argument on a negative dimension or
// overflow.
TORUSML_EXPORT std::int64_t number_of_elements(const Shape& shape);

// "(2, 3)"
TORUSML_EXPORT std::string to_string(const Shape& shape);

}  // namespace torusml
