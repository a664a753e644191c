#include "torusml/tensor.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "torusml/error.h"

namespace torusml {

std::int64_t number_of_elements(const Shape& shape) {
  std::int64_t count = 1;
  for (std::int64_t dimension : shape) {
    if (dimension < 0 || __builtin_mul_overflow(count, dimension, &count)) {
      throw Error(ErrorCode::invalid_argument,
                  fmt::format("shape {} has no valid number of elements", to_string(shape)));
    }
  }
  return count;
}

std::string to_string(const Shape& shape) { return fmt::format("({})", fmt::join(shape, ", ")); }

}  // namespace torusml
