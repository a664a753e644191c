// How a batch is cut into blocks, one at a time on each thread. Internal to this room.
#pragma once

#include <cstddef>
#include <functional>

namespace torusml {

// Calls body(first, count) in parallel for blocks that together are 0 .. count - 1: none above
// `largest`, as many as keep all threads busy to the end, and their sizes differ by one at most.
void for_blocks(std::size_t count, std::size_t largest,
                const std::function<void(std::size_t first, std::size_t count)>& body);

}  // namespace torusml
