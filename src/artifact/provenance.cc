#include "artifact/provenance.h"

#include <fmt/format.h>

#include "artifact/json_fields.h"

namespace torusml {
namespace {

constexpr int kMaxSecurityBits = 1024;

template <class Id>
Id read_id(const ContainerReader& reader, const std::string& key) {
  Id id;
  if (!from_hex(reader.property(key), id.bytes))
    reader.corrupt("header", fmt::format("property '{}' is not an id", key));
  return id;
}

}  // namespace

void set_provenance(ContainerWriter& writer, const Provenance& provenance) {
  writer.set("model_hash", to_hex(provenance.model));
  writer.set("key_id", to_hex(provenance.key));
  writer.set("profile", to_string(provenance.profile));
  writer.set("p_error", number_text(provenance.p_error));
  writer.set("security_bits", std::to_string(provenance.security_bits));
}

ModelHash read_model_hash(const ContainerReader& reader) {
  return read_id<ModelHash>(reader, "model_hash");
}

Provenance read_provenance(const ContainerReader& reader) {
  Provenance provenance;
  provenance.model = read_model_hash(reader);
  provenance.key = read_id<KeyId>(reader, "key_id");
  provenance.profile =
      reading(reader, "header", [&] { return parse_profile(reader.property("profile")); });
  provenance.p_error = read_number<double>(reader, "p_error");
  provenance.security_bits = read_number<int>(reader, "security_bits");
  if (!(provenance.p_error >= 0 && provenance.p_error < 1))
    reader.corrupt("header", "property 'p_error' is not a probability");
  if (provenance.security_bits < 0 || provenance.security_bits > kMaxSecurityBits)
    reader.corrupt("header",
                   fmt::format("property 'security_bits' is {}", provenance.security_bits));
  return provenance;
}

}  // namespace torusml
