// A Provenance as properties of a container. Private to this room.
#pragma once

#include <fmt/format.h>

#include <charconv>
#include <string>

#include "artifact/container.h"
#include "artifact/keys_and_ciphertexts.h"

namespace torusml {

void set_provenance(ContainerWriter& writer, const Provenance& provenance);
Provenance read_provenance(const ContainerReader& reader);  // error file_corrupt

ModelHash read_model_hash(const ContainerReader& reader);

// A property that is a number. Error file_corrupt.
template <class Number>
Number read_number(const ContainerReader& reader, const std::string& key) {
  const std::string& text = reader.property(key);
  Number value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size())
    reader.corrupt("header", fmt::format("property '{}' is not a number", key));
  return value;
}

}  // namespace torusml
