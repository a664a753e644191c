// How a batch is cut into blocks, one at a time on each thread. Internal to this room.
#pragma once

#include <cstddef>
#include <functional>

namespace torusml {

// Blocks of nearly equal size, none above `largest`, that occupy all threads where that is
// possible.
std::size_t block_size(std::size_t count, std::size_t largest);

// Calls body(first, count) for blocks of `size`, in parallel.
void for_blocks(std::size_t count, std::size_t size,
                const std::function<void(std::size_t first, std::size_t count)>& body);

}  // namespace torusml
