#include "registry/core.h"

#include <fmt/format.h>

#include <algorithm>

#include "registry/schema.h"

namespace torusml {
namespace {

// Time beyond this between two looks at the clock was not lived through: the clock was set, or the
// server was off. So no jump of the clock makes everything old at once.
constexpr std::int64_t kLargestStep = 3600;
constexpr std::size_t kTenantSize = 64;

DataFolder open_folder(const std::string& path, bool serves) {
  DataFolder folder(path);
  if (serves && !folder.lock("lock")) {
    throw Error(ErrorCode::file_unwritable, "another server has it",
                fmt::format("folder '{}'", path), "one server a folder");
  }
  return folder;
}

std::string database_in(const DataFolder& folder) {
  constexpr const char* kName = "registry.db";
  // SQLite would make it readable for others, and its log the same.
  if (!folder.size_of(kName)) folder.create_missing(kName);
  return folder.path_of(kName);
}

}  // namespace

Core::Core(const std::string& path, const RegistryLimits& limits, bool serves, WallClock clock)
    : limits(limits),
      clock(clock ? std::move(clock) : [] { return std::chrono::system_clock::now(); }),
      serves(serves),
      folder(open_folder(path, serves)),
      database(database_in(folder)) {
  prepare_schema(database, serves);
  lived_ = database.value_of("SELECT lived FROM time");
  seen_ = database.value_of("SELECT seen FROM time");
}

Core::~Core() {
  try {
    if (serves) save_time();
  } catch (const Error&) {
    // Then an hour or so was not lived through.
  }
}

void Core::check_serves() const {
  if (!serves) throw Error(ErrorCode::invalid_argument, "the registry was opened for tokens alone");
}

std::int64_t Core::now() const {
  return std::chrono::duration_cast<Seconds>(clock().time_since_epoch()).count();
}

std::int64_t Core::lived() {
  const std::int64_t time = now();
  lived_ += std::clamp<std::int64_t>(time - seen_, 0, kLargestStep);
  seen_ = time;
  return lived_;
}

void Core::save_time() {
  lived();
  Transaction transaction(database, Durability::lazy);
  database.run("UPDATE time SET lived = ?, seen = ?", lived_, seen_);
  transaction.commit();
}

bool is_name(std::string_view text, std::size_t most) {
  const auto is_good = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_' || c == '.';
  };
  return !text.empty() && text.size() <= most && text[0] != '.' &&
         std::ranges::all_of(text, is_good);
}

void check_tenant(const std::string& tenant) {
  if (is_name(tenant, kTenantSize)) return;
  throw Error(ErrorCode::invalid_argument,
              fmt::format("a tenant's name has 1 to {} letters, digits, '-', '_' and '.', and does "
                          "not begin with '.'",
                          kTenantSize),
              "tenant");
}

}  // namespace torusml
