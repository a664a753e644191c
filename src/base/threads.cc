#include "base/threads.h"

#include <tbb/info.h>
#include <tbb/parallel_for.h>
#include <tbb/task_arena.h>

#include <algorithm>

namespace torusml {

void parallel_for(std::size_t count, const std::function<void(std::size_t)>& body) {
  tbb::parallel_for(
      std::size_t{0}, count, [&](std::size_t i) { body(i); }, tbb::simple_partitioner());
}

void with_threads(int threads, const std::function<void()>& body) {
  tbb::task_arena arena(threads > 0 ? std::min(threads, available_threads()) : available_threads());
  arena.execute(body);
}

int available_threads() { return tbb::info::default_concurrency(); }

}  // namespace torusml
