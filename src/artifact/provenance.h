// A Provenance as properties of a container. Private to this room.
#pragma once

#include "artifact/container.h"
#include "artifact/keys_and_ciphertexts.h"

namespace torusml {

void set_provenance(ContainerWriter& writer, const Provenance& provenance);
Provenance read_provenance(const ContainerReader& reader);  // error file_corrupt

ModelHash read_model_hash(const ContainerReader& reader);

}  // namespace torusml
