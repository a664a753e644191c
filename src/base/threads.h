// Threads: a thin seam over oneTBB. An arena bounds the threads of one request; nesting works.
#pragma once

#include <cstddef>
#include <functional>

namespace torusml {

// Calls body(i) for i in [0, count), in parallel in the current arena. The first exception is
// rethrown.
void parallel_for(std::size_t count, const std::function<void(std::size_t)>& body);

// Runs body with at most `threads` threads (0: all that the process may use).
void with_threads(int threads, const std::function<void()>& body);

int available_threads();

}  // namespace torusml
