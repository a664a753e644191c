#include "importer/limits.h"

#include <fmt/format.h>

#include <algorithm>

#include "torusml/error.h"

namespace torusml {
namespace {

#ifdef TORUSML_FUZZ
// Under sanitizers the real limits are minutes and gigabytes away; nothing else depends on them.
constexpr std::int64_t kMostElements = 1 << 20, kMostProducts = 1 << 24;
#else
constexpr std::int64_t kMostElements = kMaxElements, kMostProducts = kMaxProducts;
#endif

thread_local const ResultLimit* innermost = nullptr;

}  // namespace

ResultLimit::ResultLimit(std::function<void(const Shape&)> check)
    : check_(std::move(check)), outer_(innermost) {
  innermost = this;
}

ResultLimit::~ResultLimit() { innermost = outer_; }

double element_count(const Shape& shape) {
  double count = 1;
  for (const std::int64_t size : shape)
    count *= static_cast<double>(std::max<std::int64_t>(size, 0));
  return count;
}

std::int64_t checked_elements(const Shape& shape) {
  std::int64_t count = 1;
  bool is_empty = false;
  for (std::int64_t dimension : shape) {
    is_empty |= dimension == 0;
    if (dimension < 0 ||
        __builtin_mul_overflow(count, std::max<std::int64_t>(dimension, 1), &count) ||
        count > kMostElements) {
      throw Error(ErrorCode::not_supported,
                  fmt::format("a tensor of shape {} has more than {} elements", to_string(shape),
                              kMostElements));
    }
  }
  return is_empty ? 0 : count;
}

std::int64_t checked_result(const Shape& shape) {
  if (innermost) innermost->check_(shape);
  return checked_elements(shape);
}

void check_products(std::initializer_list<std::int64_t> factors, const std::string& where) {
  double products = 1;
  for (const std::int64_t factor : factors) products *= static_cast<double>(factor);
  if (products <= static_cast<double>(kMostProducts)) return;
  throw Error(ErrorCode::not_supported,
              fmt::format("it takes {:.3g} multiplications for a sample, at most {} are done",
                          products, kMostProducts),
              where, "a smaller layer, or an export with batch 1");
}

}  // namespace torusml
