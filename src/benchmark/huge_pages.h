// What the system says of the pages under a range of memory (/proc/self/smaps).
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace torusml {

// Bytes that are mapped as huge pages, in all mappings that the range touches: a neighbour in the
// same mapping counts too, but never more than the range has. None if the system does not tell.
std::optional<std::size_t> huge_page_bytes(std::span<const std::uint8_t> range);

}  // namespace torusml
