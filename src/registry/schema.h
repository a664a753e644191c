// The registry's tables. docs/server.md says what a data folder holds. Private to this room.
#pragma once

#include "registry/sqlite.h"

namespace torusml {

// Of the tables; a database of another one is never touched.
inline constexpr std::int64_t kSchemaVersion = 1;

// Makes the tables in an empty database, or checks that they are ours. `thorough`: every page as
// well. Errors: file_foreign, file_version, file_corrupt.
void prepare_schema(Database& database, bool thorough);

}  // namespace torusml
