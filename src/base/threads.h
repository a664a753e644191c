// Threads: a thin seam over oneTBB. An arena bounds the threads of one request; nesting works.
#pragma once

#include <cstddef>
#include <functional>

namespace torusml {

// Calls body(i) for i in [0, count), in parallel in the current arena. The first exception is
// rethrown.
void parallel_for(std::size_t count, const std::function<void(std::size_t)>& body);

// Runs body with at most `threads` threads, and no more than the current arena has (0: as many as
// it has, which outside of with_threads is all that the process may use). Error invalid_argument
// when negative.
void with_threads(int threads, const std::function<void()>& body);

// The number of threads that with_threads(threads, ...) would use here.
int threads_used(int threads);

int available_threads();

}  // namespace torusml
