#include "artifact/model_facts.h"

#include <fmt/format.h>

#include "artifact/json_fields.h"
#include "artifact/provenance.h"

namespace torusml {

void set_facts(ContainerWriter& writer, const std::string& name, const ModelHash& hash,
               const PlanOptions& options) {
  writer.set("model_hash", to_hex(hash));
  writer.set("name", name);
  writer.set("precision", to_string(options.precision));
  writer.set("profile", to_string(options.profile));
  writer.set("p_error", number_text(options.p_error));
  writer.set("security_bits", std::to_string(options.security_bits));
}

void check_facts(const ContainerReader& reader, const std::string& name,
                 const PlanOptions& options) {
  const auto check = [&](const char* key, const auto& given, const auto& expected) {
    if (given == expected) return;
    reader.corrupt("header", fmt::format("property '{}' is {}, the model's sections say {}", key,
                                         given, expected));
  };
  check("name", reader.property("name"), name);
  check("precision", reader.property("precision"), to_string(options.precision));
  check("profile", reader.property("profile"), to_string(options.profile));
  check("p_error", read_number<double>(reader, "p_error"), options.p_error);
  check("security_bits", read_number<int>(reader, "security_bits"), options.security_bits);
}

}  // namespace torusml
