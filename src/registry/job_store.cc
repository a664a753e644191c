#include "registry/job_store.h"

#include <fmt/format.h>
#include <openssl/rand.h>

#include <array>
#include <set>

#include "artifact/files.h"

namespace torusml {
namespace {

constexpr std::size_t kIdempotencyKeySize = 64, kNameSize = 256;

// Unfinished states come first: SQL says "state < 2".
static_assert(static_cast<int>(JobState::queued) == 0 && static_cast<int>(JobState::running) == 1);

constexpr const char* kRequest = ".request";
constexpr const char* kResult = ".result";

std::string new_id() {
  std::array<std::uint8_t, 16> bytes;
  if (RAND_bytes(bytes.data(), bytes.size()) != 1)
    throw Error(ErrorCode::internal, "the system gives no random bytes");
  return to_hex(bytes);
}

bool is_job_file(const std::string& name) {
  std::array<std::uint8_t, 16> id;
  return (name.ends_with(kRequest) || name.ends_with(kResult)) &&
         from_hex(std::string_view(name).substr(0, name.rfind('.')), id);
}

[[noreturn]] void fail_with(ErrorCode code, std::string message, std::string hint = "") {
  throw Error(code, std::move(message), "job", std::move(hint));
}

[[noreturn]] void fail_not_found(const std::string& id) {
  fail_with(ErrorCode::not_found, fmt::format("there is no job {}", id));
}

ErrorCode error_code(std::int64_t stored) {
  switch (const auto code = static_cast<ErrorCode>(stored)) {
#define TORUSML_CASE(name, number, slug) case ErrorCode::name:
    TORUSML_ERROR_CODES(TORUSML_CASE)
#undef TORUSML_CASE
    return code;
  }
  return ErrorCode::internal;
}

#define TORUSML_JOB_COLUMNS                                                               \
  "id, tenant, model, version, key, state, created, finished, result_bytes, error_code, " \
  "error_message, error_where, error_hint"

JobRecord read_record(const Query& row) {
  JobRecord job{.id = row.text(0),
                .tenant = row.text(1),
                .model = row.text(2),
                .version = row.text(3),
                .key = row.text(4),
                .state = static_cast<JobState>(row.integer(5)),
                .created = row.integer(6),
                .finished = row.integer(7),
                .result_bytes = static_cast<std::uint64_t>(row.integer(8))};
  if (!row.is_null(9))
    job.error.emplace(error_code(row.integer(9)), row.text(10), row.text(11), row.text(12));
  return job;
}

void check(const NewJob& job) {
  check_tenant(job.tenant);
  if (job.idempotency_key.size() > kIdempotencyKeySize) {
    fail_with(ErrorCode::request_invalid,
              fmt::format("the idempotency key has {} letters, at most {} are taken",
                          job.idempotency_key.size(), kIdempotencyKeySize));
  }
  for (const std::string* text : {&job.model, &job.version, &job.key}) {
    if (text->size() > kNameSize)
      fail_with(ErrorCode::request_invalid,
                fmt::format("a name has more than {} letters", kNameSize));
  }
}

}  // namespace

JobStore::JobStore(Core& core) : core_(core), folder_(core.folder.subfolder("jobs")) {}

void JobStore::recover() {
  const std::lock_guard lock(core_.mutex);
  std::set<std::string> wanted;
  std::vector<std::string> damaged;
  {
    Query rows = core_.database.query("SELECT id, state, request_bytes, result_bytes FROM jobs");
    while (rows.next()) {
      const auto state = static_cast<JobState>(rows.integer(1));
      if (state == JobState::failed || state == JobState::cancelled) continue;
      const bool is_done = state == JobState::done;
      const std::string file = rows.text(0) + (is_done ? kResult : kRequest);
      if (folder_.size_of(file) == static_cast<std::uint64_t>(rows.integer(is_done ? 3 : 2)))
        wanted.insert(file);
      else
        damaged.push_back(rows.text(0));
    }
  }
  for (const std::string& id : damaged)
    end_with(id,
             Error(ErrorCode::file_corrupt, "the job's file is damaged", "job", "send it again"));
  for (const std::string& name : folder_.names()) {
    if (is_job_file(name) && !wanted.contains(name)) folder_.remove(name);
  }
}

// On disk when it returns.
void JobStore::save(const std::string& name, std::string_view bytes) {
  try {
    DataFile file = folder_.create(name);
    file.write(as_bytes(bytes));
    file.sync();
    folder_.sync();
  } catch (const Error&) {
    folder_.remove(name);
    throw;
  }
}

std::string JobStore::load(const std::string& name, std::uint64_t bytes) {
  const std::optional<DataFile> file = folder_.open(name);
  if (!file || file->size() != bytes)
    fail_with(ErrorCode::file_corrupt, fmt::format("the file '{}' is damaged", name),
              "send it again");
  std::string text;
  text.reserve(bytes);
  file->read([&](std::span<const std::uint8_t> piece) {
    text.append(reinterpret_cast<const char*>(piece.data()), piece.size());
  });
  return text;
}

std::optional<JobRecord> JobStore::find_repeated(const NewJob& job) {
  if (job.idempotency_key.empty()) return std::nullopt;
  Query row = core_.database.query("SELECT " TORUSML_JOB_COLUMNS
                                   " FROM jobs WHERE tenant = ? AND idempotency_key = ?",
                                   job.tenant, job.idempotency_key);
  if (!row.next()) return std::nullopt;
  return read_record(row);
}

void JobStore::check_quota(const NewJob& job) {
  constexpr const char* kWayOut = "fetch the results of some and delete them";
  Query row = core_.database.query(
      "SELECT count(*), coalesce(sum(CASE WHEN state < 2 THEN request_bytes ELSE result_bytes "
      "END), 0) FROM jobs WHERE tenant = ?",
      job.tenant);
  row.next();
  const std::int64_t count = row.integer(0);
  const auto stored = static_cast<std::uint64_t>(row.integer(1));
  if (count >= core_.limits.jobs_per_tenant) {
    fail_with(
        ErrorCode::quota_exceeded,
        fmt::format("{} jobs of {} are kept for this tenant", count, core_.limits.jobs_per_tenant),
        kWayOut);
  }
  const std::uint64_t most = core_.limits.job_bytes_per_tenant, bytes = job.request.size();
  if (stored > most || bytes > most - stored) {
    fail_with(ErrorCode::quota_exceeded,
              fmt::format("requests and results of {} bytes are kept for this tenant, and this "
                          "request has {}; {} are the most",
                          stored, bytes, most),
              kWayOut);
  }
}

JobRecord JobStore::add(const NewJob& job) {
  check(job);
  {
    const std::lock_guard lock(core_.mutex);
    if (std::optional<JobRecord> known = find_repeated(job)) return *std::move(known);
    check_quota(job);
  }
  const std::string id = new_id();
  save(id + kRequest, job.request);
  const std::lock_guard lock(core_.mutex);
  try {
    Transaction transaction(core_.database);
    // Another thread may have been faster.
    if (std::optional<JobRecord> known = find_repeated(job)) {
      remove_files(id);
      return *std::move(known);
    }
    check_quota(job);
    std::optional<std::string> idempotency_key;
    if (!job.idempotency_key.empty()) idempotency_key = job.idempotency_key;
    core_.database.run(
        "INSERT INTO jobs(id, tenant, model, version, key, idempotency_key, state, created, "
        "idle_since, request_bytes) VALUES (?,?,?,?,?,?,?,?,?,?)",
        id, job.tenant, job.model, job.version, job.key, idempotency_key,
        static_cast<int>(JobState::queued), core_.now(), core_.lived(), job.request.size());
    transaction.commit();
  } catch (const Error&) {
    remove_files(id);
    throw;
  }
  return {.id = id,
          .tenant = job.tenant,
          .model = job.model,
          .version = job.version,
          .key = job.key,
          .created = core_.now()};
}

std::optional<JobRecord> JobStore::find(const std::string& tenant, const std::string& id) {
  const std::lock_guard lock(core_.mutex);
  Query row = core_.database.query(
      "SELECT " TORUSML_JOB_COLUMNS " FROM jobs WHERE tenant = ? AND id = ?", tenant, id);
  if (!row.next()) return std::nullopt;
  return read_record(row);
}

std::vector<JobRecord> JobStore::unfinished() {
  const std::lock_guard lock(core_.mutex);
  std::vector<JobRecord> jobs;
  Query rows = core_.database.query("SELECT " TORUSML_JOB_COLUMNS
                                    " FROM jobs WHERE state < 2 ORDER BY number");
  while (rows.next()) jobs.push_back(read_record(rows));
  return jobs;
}

std::string JobStore::request(const std::string& id) {
  std::uint64_t bytes = 0;
  {
    const std::lock_guard lock(core_.mutex);
    Query row =
        core_.database.query("SELECT request_bytes FROM jobs WHERE id = ? AND state < 2", id);
    if (!row.next()) fail_not_found(id);
    bytes = static_cast<std::uint64_t>(row.integer(0));
  }
  return load(id + kRequest, bytes);
}

std::string JobStore::result(const std::string& tenant, const std::string& id) {
  const std::optional<JobRecord> job = find(tenant, id);
  if (!job) fail_not_found(id);
  if (job->state != JobState::done)
    fail_with(ErrorCode::request_invalid, fmt::format("the job {} has no result", id),
              "look at its state");
  return load(id + kResult, job->result_bytes);
}

void JobStore::start(const std::string& id) {
  const std::lock_guard lock(core_.mutex);
  // Lost, it is queued again; and it runs again anyway.
  Transaction transaction(core_.database, Durability::lazy);
  core_.database.run("UPDATE jobs SET state = ? WHERE id = ? AND state < 2",
                     static_cast<int>(JobState::running), id);
  transaction.commit();
}

void JobStore::finish(const std::string& id, std::string_view result) {
  {
    const std::lock_guard lock(core_.mutex);
    if (!core_.database.query("SELECT 1 FROM jobs WHERE id = ? AND state < 2", id).next()) return;
  }
  save(id + kResult, result);
  const std::lock_guard lock(core_.mutex);
  bool has_ended = false;
  try {
    Transaction transaction(core_.database);
    has_ended =
        core_.database.run(
            "UPDATE jobs SET state = ?, finished = ?, idle_since = ?, result_bytes = ? WHERE "
            "id = ? AND state < 2",
            static_cast<int>(JobState::done), core_.now(), core_.lived(), result.size(), id) == 1;
    transaction.commit();
  } catch (const Error&) {
    folder_.remove(id + kResult);
    throw;
  }
  folder_.remove(id + (has_ended ? kRequest : kResult));
}

void JobStore::fail(const std::string& id, const Error& error) {
  const std::lock_guard lock(core_.mutex);
  Query row = core_.database.query("SELECT 1 FROM jobs WHERE id = ? AND state < 2", id);
  if (row.next()) end_with(id, error);
}

void JobStore::end_with(const std::string& id, const Error& error) {
  const JobState state =
      error.code() == ErrorCode::cancelled ? JobState::cancelled : JobState::failed;
  Transaction transaction(core_.database);
  core_.database.run(
      "UPDATE jobs SET state = ?, finished = ?, idle_since = ?, result_bytes = 0, error_code = ?, "
      "error_message = ?, error_where = ?, error_hint = ? WHERE id = ?",
      static_cast<int>(state), core_.now(), core_.lived(), static_cast<int>(error.code()),
      error.message(), error.where(), error.hint(), id);
  transaction.commit();
  remove_files(id);
}

bool JobStore::remove(const std::string& tenant, const std::string& id) {
  const std::lock_guard lock(core_.mutex);
  Transaction transaction(core_.database);
  const bool was_there =
      core_.database.run("DELETE FROM jobs WHERE tenant = ? AND id = ?", tenant, id) == 1;
  transaction.commit();
  if (was_there) remove_files(id);
  return was_there;
}

void JobStore::clean_up() {
  const std::lock_guard lock(core_.mutex);
  const std::int64_t oldest = core_.lived() - core_.limits.finished_job.count();
  std::vector<std::string> old;
  {
    Query rows =
        core_.database.query("SELECT id FROM jobs WHERE state >= 2 AND idle_since < ?", oldest);
    while (rows.next()) old.push_back(rows.text(0));
  }
  Transaction transaction(core_.database);
  core_.database.run("DELETE FROM jobs WHERE state >= 2 AND idle_since < ?", oldest);
  transaction.commit();
  for (const std::string& id : old) remove_files(id);
}

void JobStore::remove_files(const std::string& id) {
  folder_.remove(id + kRequest);
  folder_.remove(id + kResult);
}

}  // namespace torusml
