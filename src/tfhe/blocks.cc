#include "tfhe/blocks.h"

#include <tbb/task_arena.h>

#include <algorithm>

#include "base/threads.h"

namespace torusml {

void for_blocks(std::size_t count, std::size_t largest,
                const std::function<void(std::size_t first, std::size_t count)>& body) {
  // Of the arena that this request runs in: fewer threads take larger blocks.
  const auto threads = static_cast<std::size_t>(tbb::this_task_arena::max_concurrency());
  const std::size_t rounds = (count + threads * largest - 1) / (threads * largest);
  const std::size_t blocks = std::min(count, rounds * threads);
  parallel_for(blocks, [&](std::size_t block) {
    const std::size_t first = block * count / blocks;
    body(first, (block + 1) * count / blocks - first);
  });
}

}  // namespace torusml
