// What the header of a model and of its halves says of it: properties for those who look at no
// section. Private to this room.
#pragma once

#include <string>

#include "artifact/container.h"
#include "artifact/hash.h"
#include "plan/plan.h"

namespace torusml {

void set_facts(ContainerWriter& writer, const std::string& name, const ModelHash& hash,
               const PlanOptions& options);

// Error file_corrupt unless the properties, but for the hash, say what the sections say.
void check_facts(const ContainerReader& reader, const std::string& name,
                 const PlanOptions& options);

}  // namespace torusml
