// What a server keeps in its data folder: tokens, evaluation keys, jobs. Each key and job belongs
// to one tenant, and nobody else is told that it exists.
//
//   Registry registry("/var/lib/torusml", {});
//   NewToken token = registry.add_token({.tenant = "alice"});      // token.text is shown once
//   Identity alice = registry.authenticate(token.text);
//   KeyUpload upload = registry.open_upload(alice.tenant, id, total_bytes, 0);
//   upload.write(bytes);
//   KeyRecord key = upload.finish();                               // its hash was checked
//   KeyUse use = registry.use_key(alice.tenant, id);               // not evicted while this lives
//
// Facts are in an SQLite database, content in files beside it. Whatever moment the process dies in,
// the next one finds every complete key whole, every partial one with the bytes that were
// acknowledged, and every job that had been accepted. Files are for their owner alone. One server
// at a time holds a folder; `torusml token` may write beside it. Errors of everything:
// file_unreadable, file_unwritable, file_foreign, file_version and file_corrupt (the folder and its
// database), and those of each function; a full disk is server_busy. Thread rule: every member is
// concurrent; uploads and uses end before the registry does.
//
// Ages are counted in time that the registry has lived through: between two looks at the clock,
// which clean_up() and most others take, it moves by an hour at most and never back. So a clock
// that jumps does not make everything old at once, and neither does a server that was off for long.
// Tokens expire by the clock as it is.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "artifact/hash.h"
#include "torusml/error.h"

namespace torusml {

using Seconds = std::chrono::seconds;
using WallClock = std::function<std::chrono::system_clock::time_point()>;

struct RegistryLimits {
  // Of one tenant. Error quota_exceeded.
  std::uint32_t keys_per_tenant = 8;
  std::uint64_t key_bytes_per_tenant = std::uint64_t{1} << 30;
  std::uint32_t jobs_per_tenant = 64;  // queued, running, and finished ones whose results wait
  std::uint64_t job_bytes_per_tenant = std::uint64_t{1} << 30;  // their requests and results
  // Of all together: the least recently used keys make room.
  std::uint64_t key_bytes = std::uint64_t{16} << 30;
  std::uint64_t one_key_bytes = std::uint64_t{512} << 20;
  Seconds unused_key{30 * 24 * 3600};  // a key that nobody used for so long is deleted
  Seconds idle_upload{3600};           // and an upload that got no bytes for so long
  Seconds finished_job{24 * 3600};     // and a job that ended so long ago
};

struct TokenSettings {
  std::string tenant;                // letters, digits, '-', '_' and '.'; 64 at most
  std::vector<std::string> models;   // that it may see; empty: all
  std::optional<Seconds> valid_for;  // none: until it is revoked
};
struct NewToken {
  std::string text, id;  // "tml_<id>_<secret>": shown once, stored as a hash
};
struct TokenRecord {
  std::string id, tenant;
  std::vector<std::string> models;
  std::int64_t created = 0;  // seconds since 1970, as all times here
  std::optional<std::int64_t> expires;
  bool is_revoked = false;
};
struct Identity {
  std::string tenant;
  std::vector<std::string> models;  // empty: all
  bool may_see(std::string_view model) const;
};

struct KeyRecord {
  std::string id;                         // hexadecimal SHA-256 of the file of evaluation keys
  std::uint64_t bytes = 0, received = 0;  // complete when both are equal
  std::int64_t created = 0, last_used = 0;
  bool is_complete() const { return received == bytes; }
};

enum class JobState { queued, running, done, failed, cancelled };
struct JobRecord {
  std::string id, tenant, model, version, key;
  JobState state = JobState::queued;
  std::int64_t created = 0, finished = 0;
  std::uint64_t result_bytes = 0;
  std::optional<Error> error;  // of a failed one
};
struct NewJob {
  std::string tenant, model, version, key;
  std::string idempotency_key;  // of the client's making; the same one again gives the same job
  std::string_view request;     // its bytes, for the server alone
};

class Registry;

// One upload of one key, for one thread at a time. Destroyed before it is finished, it can be
// resumed where it stopped.
class KeyUpload {
 public:
  KeyUpload(KeyUpload&&) noexcept;
  ~KeyUpload();
  std::uint64_t received() const;  // with all earlier parts
  // Errors: request_invalid when there are more bytes than were announced; server_busy (the disk is
  // full): the upload has ended then, and is where it was before.
  void write(std::span<const std::uint8_t> bytes);
  // Bytes on disk, and the record says so. If the key is whole, error request_invalid, and the
  // bytes are gone, when its hash is not the id or it is no file of evaluation keys. not_found when
  // the key was deleted meanwhile. Once.
  KeyRecord finish();

 private:
  friend class Registry;
  struct State;
  explicit KeyUpload(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

// Keeps a key from eviction and deletion of its file.
class KeyUse {
 public:
  KeyUse(KeyUse&&) noexcept;
  ~KeyUse();
  const std::string& path() const;  // of the file of evaluation keys; its hash was checked

 private:
  friend class Registry;
  struct State;
  explicit KeyUse(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

class Registry {
 public:
  // Makes the folder (mode 0700) where its parent is there; others must not be able to write to one
  // that is there. `serves`: as the one server; error file_unwritable when another one has it. If
  // it does not, only the functions of tokens can be called.
  Registry(std::string folder, const RegistryLimits& limits, bool serves = true,
           WallClock clock = {});
  ~Registry();

  NewToken add_token(const TokenSettings& settings);
  bool revoke_token(const std::string& id);  // false: there is none
  std::vector<TokenRecord> tokens() const;
  bool has_tokens() const;  // valid ones
  // Error unauthorized. In constant time for tokens of the same id.
  Identity authenticate(std::string_view token) const;

  // offset: where these bytes begin; error request_invalid unless it is what was received before,
  // when the key is whole, another size was announced before, or another upload of this key is
  // open; quota_exceeded; server_busy: keys in use take all the room. Cost: what was received
  // before this process began is hashed. restarts: from 0 on, whatever was received before or
  // announced; that is dropped, but not for a request_invalid.
  KeyUpload open_upload(const std::string& tenant, const std::string& id, std::uint64_t total_bytes,
                        std::uint64_t offset, bool restarts = false);
  std::optional<KeyRecord> key(const std::string& tenant, const std::string& id) const;
  std::vector<KeyRecord> keys(const std::string& tenant) const;
  bool delete_key(const std::string& tenant, const std::string& id);
  // Errors: not_found, also of a partial one; file_corrupt, when the file's hash is not the id any
  // more: the key is gone then.
  KeyUse use_key(const std::string& tenant, const std::string& id);

  // The job, on disk, or the one that this idempotency key made before. Error quota_exceeded. The
  // key of an unfinished job is not evicted.
  JobRecord add_job(const NewJob& job);
  std::optional<JobRecord> job(const std::string& tenant, const std::string& id) const;
  std::vector<JobRecord> unfinished_jobs() const;        // queued or running, oldest first
  std::string job_request(const std::string& id) const;  // of an unfinished one; error not_found
  // Of a job that was deleted meanwhile, or has ended, the next three change nothing.
  void start_job(const std::string& id);
  void finish_job(const std::string& id, std::string_view result);
  void fail_job(const std::string& id, const Error& error);  // cancelled: state cancelled
  // Error not_found; request_invalid when it has no result.
  std::string job_result(const std::string& tenant, const std::string& id) const;
  bool delete_job(const std::string& tenant, const std::string& id);  // with request and result

  // Deletes what is too old, and the least recently used keys beyond the budget. Cost: a few
  // queries.
  void clean_up();
  // prepared_keys_folder() + "/" + the key's id is a folder for load_prepared_keys, which is
  // deleted with the last key of this id.
  std::string prepared_keys_folder() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace torusml
