#include "registry/sqlite.h"

#include <fmt/format.h>
#include <sqlite3.h>

#include <cerrno>

#include "torusml/error.h"

namespace torusml {
namespace {

constexpr int kBusyTimeoutMs = 5000;

bool is_full(int code, int system_error) {
  return (code & 0xff) == SQLITE_FULL ||
         ((code & 0xff) == SQLITE_IOERR &&
          (system_error == ENOSPC || system_error == EDQUOT || system_error == EFBIG));
}

ErrorCode error_code_of(int code) {
  switch (code & 0xff) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
    case SQLITE_PROTOCOL:
      return ErrorCode::server_busy;
    case SQLITE_CORRUPT:
      return ErrorCode::file_corrupt;
    case SQLITE_NOTADB:
      return ErrorCode::file_foreign;
    case SQLITE_CANTOPEN:
    case SQLITE_AUTH:
    case SQLITE_PERM:
      return ErrorCode::file_unreadable;
    case SQLITE_IOERR:
      // A database that was cut reads short.
      return code == SQLITE_IOERR_SHORT_READ ? ErrorCode::file_corrupt : ErrorCode::file_unwritable;
    case SQLITE_READONLY:
      return ErrorCode::file_unwritable;
    default:
      return ErrorCode::internal;
  }
}

}  // namespace

Query::~Query() {
  if (statement_ == nullptr) return;
  sqlite3_reset(statement_);
  sqlite3_clear_bindings(statement_);
}

bool Query::next() {
  const int code = sqlite3_step(statement_);
  if (code == SQLITE_ROW) return true;
  if (code != SQLITE_DONE) database_->fail(code);
  return false;
}

bool Query::is_null(int column) const {
  return sqlite3_column_type(statement_, column) == SQLITE_NULL;
}

std::int64_t Query::integer(int column) const { return sqlite3_column_int64(statement_, column); }

std::string Query::text(int column) const { return blob(column); }

std::string Query::blob(int column) const {
  const void* bytes = sqlite3_column_blob(statement_, column);
  const int size = sqlite3_column_bytes(statement_, column);
  return bytes == nullptr ? ""
                          : std::string(static_cast<const char*>(bytes), static_cast<size_t>(size));
}

Database::Database(const std::string& path) : path_(path) {
  constexpr int kFlags =
      SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_NOFOLLOW | SQLITE_OPEN_EXRESCODE;
  try {
    check(sqlite3_open_v2(path.c_str(), &handle_, kFlags, nullptr));
    check(sqlite3_busy_timeout(handle_, kBusyTimeoutMs));
    execute("PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON; PRAGMA foreign_keys = ON");
  } catch (...) {
    sqlite3_close_v2(handle_);
    throw;
  }
}

Database::~Database() {
  for (const auto& [sql, statement] : statements_) sqlite3_finalize(statement);
  sqlite3_close_v2(handle_);
}

void Database::execute(const std::string& sql) {
  check(sqlite3_exec(handle_, sql.c_str(), nullptr, nullptr, nullptr));
}

std::int64_t Database::value_of(const std::string& sql) {
  Query rows = query(sql.c_str());
  return rows.next() ? rows.integer(0) : 0;
}

sqlite3_stmt* Database::prepare(const char* sql) {
  const auto found = statements_.find(std::string_view(sql));
  if (found != statements_.end()) {
    if (sqlite3_stmt_busy(found->second) != 0)
      throw Error(ErrorCode::internal, fmt::format("a statement is used twice at once: {}", sql));
    return found->second;
  }
  sqlite3_stmt* statement = nullptr;
  check(sqlite3_prepare_v3(handle_, sql, -1, SQLITE_PREPARE_PERSISTENT, &statement, nullptr));
  return statements_.emplace(sql, statement).first->second;
}

void Database::bind(sqlite3_stmt* statement, int index, std::int64_t value) {
  check(sqlite3_bind_int64(statement, index, value));
}

void Database::bind(sqlite3_stmt* statement, int index, std::string_view value) {
  check(sqlite3_bind_text64(statement, index, value.data() == nullptr ? "" : value.data(),
                            value.size(), SQLITE_TRANSIENT, SQLITE_UTF8));
}

void Database::bind(sqlite3_stmt* statement, int index, std::span<const std::uint8_t> value) {
  check(sqlite3_bind_blob64(statement, index, value.data(), value.size(), SQLITE_TRANSIENT));
}

void Database::bind_null(sqlite3_stmt* statement, int index) {
  check(sqlite3_bind_null(statement, index));
}

std::int64_t Database::changes() const { return sqlite3_changes64(handle_); }

bool Database::is_in_transaction() const { return sqlite3_get_autocommit(handle_) == 0; }

void Database::check(int code) const {
  if (code != SQLITE_OK) fail(code);
}

void Database::fail(int code) const {
  const std::string where = fmt::format("file '{}'", path_);
  if (handle_ == nullptr) throw Error(ErrorCode::internal, sqlite3_errstr(code), where);
  if (is_full(code, sqlite3_system_errno(handle_))) {
    throw Error(ErrorCode::server_busy, "the disk is full", where, "make room on it");
  }
  const bool is_busy = error_code_of(code) == ErrorCode::server_busy;
  throw Error(error_code_of(code), sqlite3_errmsg(handle_), where,
              is_busy                           ? "again in a moment"
              : (code & 0xff) == SQLITE_CORRUPT ? "restore a backup of it"
                                                : "");
}

Transaction::Transaction(Database& database, Durability durability)
    : database_(database), durability_(durability) {
  if (durability_ == Durability::lazy) database_.execute("PRAGMA synchronous = NORMAL");
  try {
    database_.execute("BEGIN IMMEDIATE");
  } catch (...) {
    restore();
    throw;
  }
}

Transaction::~Transaction() {
  if (database_.is_in_transaction())
    sqlite3_exec(database_.handle_, "ROLLBACK", nullptr, nullptr, nullptr);
  restore();
}

void Transaction::commit() { database_.execute("COMMIT"); }

void Transaction::restore() noexcept {
  if (durability_ == Durability::lazy)
    sqlite3_exec(database_.handle_, "PRAGMA synchronous = FULL", nullptr, nullptr, nullptr);
}

}  // namespace torusml
