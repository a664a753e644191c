// Containers taken apart and put together again with contents of one's own and right hashes: what a
// hostile writer would make. Tests only.
//
//   Forged forged = *take_apart(bytes);
//   forged.bodies[0] += "x";
//   std::string file = put_together(forged);
#pragma once

#include <cstddef>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "artifact/header.h"

namespace torusml::fuzz {

struct Forged {
  ContainerHeader header;
  std::vector<std::string> bodies;  // by section, before compression
};

// nullopt if it is not a container, or a section holds more than `limit` bytes.
std::optional<Forged> take_apart(std::string_view bytes, std::size_t limit = std::size_t{1} << 22);

// Sizes, offsets, hashes and (of a whole model) model hash are made right; then `lie` may change
// the header, whose own hash is made right after it.
std::string put_together(const Forged& forged,
                         const std::function<void(ContainerHeader&)>& lie = {});

// Makes the hash of the header right, whatever it is; false if there is none.
bool repair_header_hash(std::string& bytes);

}  // namespace torusml::fuzz
