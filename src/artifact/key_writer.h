// Evaluation keys on their way to a container. Private to this room.
#pragma once

#include "artifact/container.h"
#include "artifact/keys_and_ciphertexts.h"

namespace torusml {

// The keys must outlive the writer.
ContainerWriter make_writer(const EvaluationKeySet& keys);

}  // namespace torusml
