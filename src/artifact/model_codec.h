// Reads a whole model from any source. Private to this room.
#pragma once

#include "artifact/codecs.h"

namespace torusml {

StoredModel read_model(const ByteSource& source, std::uint64_t max_bytes);

}  // namespace torusml
