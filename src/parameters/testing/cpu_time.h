// For tests.
#pragma once

#include <ctime>

namespace torusml {

// Milliseconds of processor time that this process has had: bounds on it hold beside other work.
inline double cpu_ms() { return 1e3 * static_cast<double>(std::clock()) / CLOCKS_PER_SEC; }

}  // namespace torusml
