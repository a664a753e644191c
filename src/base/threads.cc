#include "base/threads.h"

#include <fmt/format.h>
#include <tbb/info.h>
#include <tbb/parallel_for.h>
#include <tbb/task_arena.h>

#include <algorithm>

#include "torusml/error.h"

namespace torusml {

void parallel_for(std::size_t count, const std::function<void(std::size_t)>& body) {
  tbb::parallel_for(
      std::size_t{0}, count, [&](std::size_t i) { body(i); }, tbb::simple_partitioner());
}

void with_threads(int threads, const std::function<void()>& body) {
  const int used = threads_used(threads);
  if (threads == 0) return body();
  tbb::task_arena arena(used);
  arena.execute(body);
}

int threads_used(int threads) {
  if (threads < 0) {
    throw Error(ErrorCode::invalid_argument, fmt::format("{} threads were asked for", threads),
                "threads", "a number from 1 on, or 0 for all");
  }
  const int here = tbb::this_task_arena::max_concurrency();
  return threads == 0 ? here : std::min(threads, here);
}

int available_threads() { return tbb::info::default_concurrency(); }

}  // namespace torusml
