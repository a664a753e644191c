// Progress of long work. The library itself never prints.
#pragma once

#include <cstddef>
#include <functional>

namespace torusml {

// Called with (done, total) from whatever thread did the work; calls are serialised. May be empty.
using ProgressCallback = std::function<void(std::size_t done, std::size_t total)>;

}  // namespace torusml
