// Names of keys and of their files, and errors about them. Private to this room.
#pragma once

#include <fmt/format.h>

#include <compare>
#include <string>
#include <string_view>

#include "artifact/hash.h"
#include "torusml/error.h"

namespace torusml {

struct KeyName {
  std::string tenant, id;
  auto operator<=>(const KeyName&) const = default;
};

inline constexpr std::string_view kPart = ".part";
// Of a key that is not whole.
inline std::string part_of(const std::string& id) { return id + std::string(kPart); }

inline bool is_key_id(std::string_view text) {
  Digest digest;
  return from_hex(text, digest);
}

[[noreturn]] inline void fail_key(ErrorCode code, std::string message, std::string hint = "") {
  throw Error(code, std::move(message), "key", std::move(hint));
}

[[noreturn]] inline void fail_no_key(const std::string& id) {
  fail_key(ErrorCode::not_found, fmt::format("there is no key {}", id),
           "upload it by PUT /v2/keys/{id}");
}

}  // namespace torusml
