// Some samples of a batch.
#pragma once

#include <cstddef>

namespace torusml {

struct SampleRange {
  std::size_t first = 0, count = 0;
};

}  // namespace torusml
