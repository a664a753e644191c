#include "registry/schema.h"

#include <fmt/format.h>

#include "torusml/error.h"

namespace torusml {
namespace {

constexpr std::int64_t kApplicationId = 0x544d4c52;  // "TMLR"

// Times are seconds since 1970, but for idle_since, which is in seconds that the registry has lived
// through (core.h). use_order grows with every use.
constexpr const char* kTables = R"(
CREATE TABLE time(lived INTEGER NOT NULL, seen INTEGER NOT NULL) STRICT;
INSERT INTO time VALUES (0, 0);

CREATE TABLE tokens(
  id TEXT PRIMARY KEY,
  secret_sha256 BLOB NOT NULL,
  tenant TEXT NOT NULL,
  created INTEGER NOT NULL,
  expires INTEGER,
  is_revoked INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE token_models(
  token TEXT NOT NULL REFERENCES tokens(id) ON DELETE CASCADE,
  model TEXT NOT NULL,
  PRIMARY KEY(token, model)
) STRICT, WITHOUT ROWID;

CREATE TABLE keys(
  tenant TEXT NOT NULL,
  id TEXT NOT NULL,
  bytes INTEGER NOT NULL,
  received INTEGER NOT NULL,
  created INTEGER NOT NULL,
  last_used INTEGER NOT NULL,
  idle_since INTEGER NOT NULL,
  use_order INTEGER NOT NULL,
  PRIMARY KEY(tenant, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX keys_by_id ON keys(id);
CREATE INDEX keys_by_use ON keys(use_order);

CREATE TABLE jobs(
  number INTEGER PRIMARY KEY AUTOINCREMENT,
  id TEXT NOT NULL UNIQUE,
  tenant TEXT NOT NULL,
  model TEXT NOT NULL,
  version TEXT NOT NULL,
  key TEXT NOT NULL,
  idempotency_key TEXT,
  state INTEGER NOT NULL,
  created INTEGER NOT NULL,
  finished INTEGER NOT NULL DEFAULT 0,
  idle_since INTEGER NOT NULL,
  request_bytes INTEGER NOT NULL,
  result_bytes INTEGER NOT NULL DEFAULT 0,
  error_code INTEGER,
  error_message TEXT,
  error_where TEXT,
  error_hint TEXT,
  UNIQUE(tenant, idempotency_key)
) STRICT;
CREATE INDEX jobs_by_key ON jobs(tenant, key);
)";

void make_tables(Database& database) {
  Transaction transaction(database);
  // Another process may have been faster.
  if (database.value_of("PRAGMA user_version") != 0) return;
  if (database.value_of("SELECT count(*) FROM sqlite_schema") != 0 ||
      database.value_of("PRAGMA application_id") != 0) {
    throw Error(ErrorCode::file_foreign, "it is a database of another program",
                fmt::format("file '{}'", database.path()));
  }
  database.execute(kTables);
  database.execute(fmt::format("PRAGMA application_id = {}; PRAGMA user_version = {}",
                               kApplicationId, kSchemaVersion));
  transaction.commit();
}

void check_version(Database& database) {
  const std::string where = fmt::format("file '{}'", database.path());
  if (database.value_of("PRAGMA application_id") != kApplicationId)
    throw Error(ErrorCode::file_foreign, "it is a database of another program", where);
  const std::int64_t version = database.value_of("PRAGMA user_version");
  if (version == kSchemaVersion) return;
  throw Error(
      ErrorCode::file_version,
      fmt::format("it has schema version {}, this program reads {}", version, kSchemaVersion),
      where,
      version > kSchemaVersion ? "a newer TorusML wrote it: install that version or a later one"
                               : "use the TorusML that wrote it");
}

void check_pages(Database& database) {
  Query rows = database.query("PRAGMA quick_check(1)");
  const std::string found = rows.next() ? rows.text(0) : "nothing";
  if (found == "ok") return;
  throw Error(ErrorCode::file_corrupt, found, fmt::format("file '{}'", database.path()),
              "restore a backup of it");
}

}  // namespace

void prepare_schema(Database& database, bool thorough) {
  if (database.value_of("PRAGMA user_version") == 0) make_tables(database);
  check_version(database);
  database.execute("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL");
  if (thorough) check_pages(database);
}

}  // namespace torusml
