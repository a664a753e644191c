// SQLite, by its C interface, with statements that are compiled once.
//
//   Database database("/var/lib/torusml/registry.db");
//   Transaction transaction(database);
//   database.run("UPDATE keys SET received = ? WHERE id = ?", received, id);
//   transaction.commit();                               // without it nothing changes
//   Query query = database.query("SELECT id, bytes FROM keys WHERE tenant = ?", tenant);
//   while (query.next()) use(query.text(0), query.integer(1));
//
// A database is in WAL mode: readers and one writer, of this process and of others, go on side by
// side, a commit is one append and one sync, and a process that dies leaves a log that the next one
// replays. It needs a local file system. Errors of everything here: server_busy (the disk is full,
// or another process writes for more than five seconds), file_corrupt, file_foreign (no SQLite
// file), file_unreadable, file_unwritable. Thread rule: one thread at a time.
#pragma once

#include <concepts>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>

struct sqlite3;
struct sqlite3_stmt;

namespace torusml {

class Database;

// The rows of a statement. It lives no longer than the database, and one statement has one Query at
// a time.
class Query {
 public:
  Query(Query&& other) noexcept : database_(other.database_), statement_(other.statement_) {
    other.statement_ = nullptr;
  }
  Query(const Query&) = delete;
  ~Query();

  bool next();  // false: there are no more
  bool is_null(int column) const;
  std::int64_t integer(int column) const;
  std::string text(int column) const;
  std::string blob(int column) const;

 private:
  friend class Database;
  Query(Database& database, sqlite3_stmt* statement)
      : database_(&database), statement_(statement) {}

  Database* database_;
  sqlite3_stmt* statement_;
};

class Database {
 public:
  // The file must be there; an empty one is an empty database. No symbolic link leads to it.
  explicit Database(const std::string& path);
  ~Database();
  Database(const Database&) = delete;
  Database& operator=(const Database&) = delete;

  // Statements without arguments, one after the other.
  void execute(const std::string& sql);
  std::int64_t value_of(const std::string& sql);  // of the first column of the first row; 0: none

  // Arguments: integers, texts, bytes (a span), and optional ones (nothing: NULL).
  template <class... Arguments>
  Query query(const char* sql, const Arguments&... arguments) {
    Query query(*this, prepare(sql));
    int index = 0;
    (bind(query.statement_, ++index, arguments), ...);
    return query;
  }
  // The number of rows that it changed.
  template <class... Arguments>
  std::int64_t run(const char* sql, const Arguments&... arguments) {
    Query all = query(sql, arguments...);
    while (all.next()) {
    }
    return changes();
  }

  const std::string& path() const { return path_; }

 private:
  friend class Query;
  friend class Transaction;

  sqlite3_stmt* prepare(const char* sql);
  void bind(sqlite3_stmt* statement, int index, std::int64_t value);
  void bind(sqlite3_stmt* statement, int index, std::string_view value);
  void bind(sqlite3_stmt* statement, int index, std::span<const std::uint8_t> value);
  void bind_null(sqlite3_stmt* statement, int index);
  void bind(sqlite3_stmt* statement, int index, const std::string& value) {
    bind(statement, index, std::string_view(value));
  }
  template <std::integral Integer>
  void bind(sqlite3_stmt* statement, int index, Integer value) {
    bind(statement, index, static_cast<std::int64_t>(value));
  }
  template <class T>
  void bind(sqlite3_stmt* statement, int index, const std::optional<T>& value) {
    if (value)
      bind(statement, index, *value);
    else
      bind_null(statement, index);
  }
  std::int64_t changes() const;
  bool is_in_transaction() const;
  void check(int code) const;
  [[noreturn]] void fail(int code) const;

  std::string path_;
  sqlite3* handle_ = nullptr;
  std::map<std::string, sqlite3_stmt*, std::less<>> statements_;
};

// lazy: the commit may be lost, as a whole, when the machine (not the process) stops soon after it.
enum class Durability { on_disk, lazy };

// All changes or none. It takes the right to write at once.
class Transaction {
 public:
  explicit Transaction(Database& database, Durability durability = Durability::on_disk);
  ~Transaction();  // gives up what was not committed
  Transaction(const Transaction&) = delete;
  Transaction& operator=(const Transaction&) = delete;
  void commit();

 private:
  void restore() noexcept;
  Database& database_;
  const Durability durability_;
};

}  // namespace torusml
