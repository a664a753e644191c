// A ClientSpec as a JSON section. Private to this room.
#pragma once

#include <string>

#include "artifact/container.h"
#include "plan/client_spec.h"

namespace torusml {

std::string client_spec_text(const ClientSpec& spec);
// Error file_corrupt.
ClientSpec read_client_spec(const ContainerReader& reader, const std::string& section);

}  // namespace torusml
