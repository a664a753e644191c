#include "registry/key_store.h"

#include <fmt/format.h>

#include <algorithm>

#include "artifact/container.h"

namespace torusml {
namespace {

constexpr std::string_view kPart = ".part";

std::string part_of(const std::string& id) { return id + std::string(kPart); }

bool is_key_id(std::string_view text) {
  Digest digest;
  return from_hex(text, digest);
}

KeyRecord read_record(const Query& row) {
  return {.id = row.text(0),
          .bytes = static_cast<std::uint64_t>(row.integer(1)),
          .received = static_cast<std::uint64_t>(row.integer(2)),
          .created = row.integer(3),
          .last_used = row.integer(4)};
}

[[noreturn]] void fail(ErrorCode code, std::string message, std::string hint = "") {
  throw Error(code, std::move(message), "key", std::move(hint));
}

[[noreturn]] void fail_not_found(const std::string& id) {
  fail(ErrorCode::not_found, fmt::format("there is no key {}", id),
       "upload it by PUT /v2/keys/{id}");
}

void check_offset(std::uint64_t offset, std::uint64_t received) {
  if (offset == received) return;
  fail(ErrorCode::request_invalid,
       fmt::format("the bytes begin at {}; {} were received before", offset, received),
       "go on where the upload ended");
}

Digest hash_of(const DataFile& file) {
  Sha256 hash;
  file.read([&](std::span<const std::uint8_t> bytes) { hash.update(bytes); });
  return hash.finish();
}

}  // namespace

KeyStore::KeyStore(Core& core)
    : core_(core),
      keys_(core.folder.subfolder("keys")),
      prepared_(core.folder.subfolder("prepared")) {}

// ---- Start

void KeyStore::recover() {
  const std::lock_guard lock(core_.mutex);
  std::set<std::string> tenants;
  for (const std::string& name : keys_.names()) tenants.insert(name);
  Query rows = core_.database.query("SELECT DISTINCT tenant FROM keys");
  while (rows.next()) tenants.insert(rows.text(0));
  for (const std::string& tenant : tenants) recover_tenant(tenant);
  forget_prepared();
}

void KeyStore::recover_tenant(const std::string& tenant) {
  const std::optional<DataFolder> folder = keys_.find_subfolder(tenant);
  std::set<std::string> wanted;
  std::vector<KeyRecord> records;
  {
    Query rows = core_.database.query(
        "SELECT id, bytes, received, created, last_used FROM keys WHERE tenant = ?", tenant);
    while (rows.next()) records.push_back(read_record(rows));
  }
  for (const KeyRecord& record : records) {
    const KeyName name{tenant, record.id};
    const auto whole = folder ? folder->size_of(record.id) : std::nullopt;
    const auto part = folder ? folder->size_of(part_of(record.id)) : std::nullopt;
    if (whole == record.bytes) {
      // It was renamed, so it had been checked; the record may not have come to say so.
      if (!record.is_complete()) complete(name, record.bytes);
      wanted.insert(record.id);
    } else if (!record.is_complete() && part >= record.received) {
      wanted.insert(part_of(record.id));
    } else {
      delete_record(name);
    }
  }
  if (!folder) return;
  for (const std::string& file : folder->names()) {
    const std::string_view id = std::string_view(file).substr(0, file.rfind(kPart));
    if (is_key_id(id) && !wanted.contains(file)) folder->remove(file);
  }
  keys_.remove_folder(tenant);  // where it is empty
}

// ---- Upload

std::unique_ptr<Upload> KeyStore::open_upload(const KeyName& name, std::uint64_t total,
                                              std::uint64_t offset) {
  check_tenant(name.tenant);
  if (!is_key_id(name.id)) {
    fail(ErrorCode::request_invalid, "a key's id is the SHA-256 of its file: 64 hexadecimal digits",
         "small letters");
  }
  std::unique_lock lock(core_.mutex);
  if (uploads_.contains(name))
    fail(ErrorCode::request_invalid, "another upload of this key is open", "again in a moment");
  const std::optional<KeyRecord> found = record(name);
  if (found && found->is_complete())
    fail(ErrorCode::request_invalid, "the key is there already, whole");
  if (found && found->bytes != total) {
    fail(ErrorCode::request_invalid,
         fmt::format("{} bytes are announced, {} were before", total, found->bytes),
         "delete the key first");
  }
  check_offset(offset, found ? found->received : 0);
  if (!found) begin_upload(name, total);
  DataFolder folder = keys_.subfolder(name.tenant);
  DataFile file = open_part(name, folder, total, offset);
  auto upload =
      std::make_unique<Upload>(*this, name, total, offset, std::move(folder), std::move(file));
  uploads_.insert(name);
  const auto paused = paused_.find(name);
  const bool is_hashed = offset == 0 || paused != paused_.end();
  if (paused != paused_.end()) {
    upload->hash_ = std::move(paused->second);
    paused_.erase(paused);
  }
  lock.unlock();
  if (!is_hashed)
    upload->file_.read([&](std::span<const std::uint8_t> bytes) { upload->hash_.update(bytes); });
  return upload;
}

// The record is there. What cannot be gone on with is forgotten.
DataFile KeyStore::open_part(const KeyName& name, const DataFolder& folder, std::uint64_t total,
                             std::uint64_t offset) {
  const std::string part = part_of(name.id);
  bool is_lost = offset == 0;
  try {
    std::optional<DataFile> file = offset > 0 ? folder.open(part) : folder.create(part);
    if (!file || file->size() < offset) {
      is_lost = true;
      fail(ErrorCode::file_corrupt, "the bytes that were received before are gone",
           "begin the upload again");
    }
    file->truncate(offset);
    file->reserve(total);
    return *std::move(file);
  } catch (const Error&) {
    if (is_lost) {
      delete_record(name);
      remove_files(name);
    }
    throw;
  }
}

void KeyStore::check_quota(const KeyName& name, std::uint64_t bytes) {
  const RegistryLimits& limits = core_.limits;
  if (bytes == 0) fail(ErrorCode::request_invalid, "a key of 0 bytes is announced");
  const std::uint64_t most = std::min(limits.one_key_bytes, limits.key_bytes);
  if (bytes > most) {
    fail(ErrorCode::quota_exceeded,
         fmt::format("the key has {} bytes, at most {} are taken", bytes, most),
         "ask the operator for more");
  }
  constexpr const char* kWayOut = "delete one of them, or ask the operator for more";
  Query row = core_.database.query(
      "SELECT count(*), coalesce(sum(bytes), 0) FROM keys WHERE tenant = ?", name.tenant);
  row.next();
  const auto count = static_cast<std::uint64_t>(row.integer(0));
  const auto stored = static_cast<std::uint64_t>(row.integer(1));
  if (count >= limits.keys_per_tenant) {
    fail(ErrorCode::quota_exceeded,
         fmt::format("{} keys of {} are stored for this tenant", count, limits.keys_per_tenant),
         kWayOut);
  }
  if (stored > limits.key_bytes_per_tenant || bytes > limits.key_bytes_per_tenant - stored) {
    fail(ErrorCode::quota_exceeded,
         fmt::format("keys of {} bytes are stored for this tenant, and this one has {}; {} are the "
                     "most",
                     stored, bytes, limits.key_bytes_per_tenant),
         kWayOut);
  }
}

void KeyStore::begin_upload(const KeyName& name, std::uint64_t bytes) {
  check_quota(name, bytes);
  std::vector<KeyName> removed;
  Transaction transaction(core_.database);
  if (!make_room(bytes, removed))
    fail(ErrorCode::server_busy, "keys in use take all the room", "again later");
  core_.database.run(
      "INSERT INTO keys VALUES (?, ?, ?, 0, ?, ?, ?, (SELECT coalesce(max(use_order), 0) + 1 FROM "
      "keys))",
      name.tenant, name.id, bytes, core_.now(), core_.now(), core_.lived());
  transaction.commit();
  for (const KeyName& key : removed) remove_files(key);
}

Upload::Upload(KeyStore& store, KeyName name, std::uint64_t total, std::uint64_t offset,
               DataFolder folder, DataFile file)
    : store_(store),
      name_(std::move(name)),
      total_(total),
      offset_(offset),
      received_(offset),
      folder_(std::move(folder)),
      file_(std::move(file)) {}

Upload::~Upload() {
  try {
    if (!has_ended_ && received_ > offset_) store_.finish(*this);
  } catch (const Error&) {
    // Then these bytes come again.
  }
  store_.close(*this);
}

void Upload::write(std::span<const std::uint8_t> bytes) {
  if (has_ended_) fail(ErrorCode::internal, "bytes are written to an upload that has ended");
  if (bytes.size() > total_ - received_) {
    fail(ErrorCode::request_invalid,
         fmt::format("more than the {} bytes that were announced", total_));
  }
  try {
    file_.write(bytes);
  } catch (const Error&) {
    store_.give_up(*this);
    throw;
  }
  hash_.update(bytes);
  received_ += bytes.size();
}

void KeyStore::give_up(Upload& upload) noexcept {
  upload.has_ended_ = true;
  const std::lock_guard lock(core_.mutex);
  try {
    upload.file_.truncate(upload.offset_);
    if (upload.offset_ > 0) return;
    delete_record(upload.name_);
    remove_files(upload.name_);
  } catch (const Error&) {
    // The next upload begins where the record says.
  }
}

KeyRecord KeyStore::finish(Upload& upload) {
  if (upload.has_ended_) fail(ErrorCode::internal, "the upload has ended already");
  upload.has_ended_ = true;
  const KeyName& name = upload.name_;
  try {
    upload.file_.sync();
    upload.folder_.sync();
  } catch (const Error&) {
    give_up(upload);
    throw;
  }
  const bool is_whole = upload.received_ == upload.total_;
  if (is_whole) check_content(name, upload.folder_, upload.hash_.finish());

  const std::lock_guard lock(core_.mutex);
  if (!record(name)) fail_not_found(name.id);  // it was deleted meanwhile
  if (!is_whole) {
    Transaction transaction(core_.database);
    core_.database.run("UPDATE keys SET received = ?, idle_since = ? WHERE tenant = ? AND id = ?",
                       upload.received_, core_.lived(), name.tenant, name.id);
    transaction.commit();
    paused_.insert_or_assign(name, std::move(upload.hash_));
    return *record(name);
  }
  const std::string part = part_of(name.id);
  upload.folder_.rename(part, name.id);
  try {
    upload.folder_.sync();
    complete(name, upload.total_);
  } catch (const Error&) {
    upload.folder_.rename(name.id, part);
    throw;
  }
  good_.insert(name);
  return *record(name);
}

// A file that is not what it is to be is deleted.
void KeyStore::check_content(const KeyName& name, const DataFolder& folder, const Digest& digest) {
  std::optional<Error> wrong;
  if (const std::string found = to_hex(digest); found != name.id) {
    wrong.emplace(ErrorCode::request_invalid,
                  fmt::format("the SHA-256 of its bytes is {}, not its id", found), "key",
                  "send it again");
  } else {
    try {
      const FileSource file(folder.path_of(part_of(name.id)));
      ContainerReader(file, {FileKind::evaluation_keys}, core_.limits.one_key_bytes);
    } catch (const Error& error) {
      wrong.emplace(ErrorCode::request_invalid,
                    fmt::format("it is no file of evaluation keys: {}", error.message()), "key",
                    error.hint());
    }
  }
  if (!wrong) return;
  const std::lock_guard lock(core_.mutex);
  if (!record(name)) fail_not_found(name.id);  // it was deleted meanwhile
  delete_record(name);
  remove_files(name);
  throw *wrong;
}

void KeyStore::complete(const KeyName& name, std::uint64_t bytes) {
  Transaction transaction(core_.database);
  core_.database.run(
      "UPDATE keys SET received = ?, last_used = ?, idle_since = ?, use_order = (SELECT "
      "max(use_order) + 1 FROM keys) WHERE tenant = ? AND id = ?",
      bytes, core_.now(), core_.lived(), name.tenant, name.id);
  transaction.commit();
}

void KeyStore::close(const Upload& upload) noexcept {
  const std::lock_guard lock(core_.mutex);
  uploads_.erase(upload.name_);
}

// ---- Records

std::optional<KeyRecord> KeyStore::record(const KeyName& name) {
  Query row = core_.database.query(
      "SELECT id, bytes, received, created, last_used FROM keys WHERE tenant = ? AND id = ?",
      name.tenant, name.id);
  if (!row.next()) return std::nullopt;
  return read_record(row);
}

std::optional<KeyRecord> KeyStore::find(const KeyName& name) {
  const std::lock_guard lock(core_.mutex);
  return record(name);
}

std::vector<KeyRecord> KeyStore::all(const std::string& tenant) {
  const std::lock_guard lock(core_.mutex);
  std::vector<KeyRecord> keys;
  Query rows = core_.database.query(
      "SELECT id, bytes, received, created, last_used FROM keys WHERE tenant = ? ORDER BY created, "
      "id",
      tenant);
  while (rows.next()) keys.push_back(read_record(rows));
  return keys;
}

bool KeyStore::remove(const KeyName& name) {
  const std::lock_guard lock(core_.mutex);
  if (!record(name)) return false;
  delete_record(name);
  remove_files(name);
  return true;
}

void KeyStore::delete_record(const KeyName& name) {
  Transaction transaction(core_.database);
  core_.database.run("DELETE FROM keys WHERE tenant = ? AND id = ?", name.tenant, name.id);
  transaction.commit();
}

void KeyStore::remove_files(const KeyName& name) {
  paused_.erase(name);
  good_.erase(name);
  if (const std::optional<DataFolder> folder = keys_.find_subfolder(name.tenant)) {
    folder->remove(part_of(name.id));
    if (!is_in_use(name)) folder->remove(name.id);  // otherwise the last use does it
  }
  remove_prepared(name.id);
}

// ---- Use

bool KeyStore::is_in_use(const KeyName& name) const { return uses_.contains(name); }

std::string KeyStore::use(const KeyName& name) {
  std::unique_lock lock(core_.mutex);
  checked_.wait(lock, [&] { return !being_checked_.contains(name); });
  const std::optional<KeyRecord> found = record(name);
  if (!found || !found->is_complete()) fail_not_found(name.id);
  const DataFolder folder = keys_.subfolder(name.tenant);
  ++uses_[name];
  try {
    if (!good_.contains(name)) check_hash(name, *found, folder, lock);
    save_use(name);
  } catch (...) {
    lock.unlock();
    release(name);
    throw;
  }
  return folder.path_of(name.id);
}

// Others go on meanwhile. A key that is not good is deleted.
void KeyStore::check_hash(const KeyName& name, const KeyRecord& record, const DataFolder& folder,
                          std::unique_lock<std::mutex>& lock) {
  being_checked_.insert(name);
  lock.unlock();
  std::string damage;
  try {
    const std::optional<DataFile> file = folder.open(record.id);
    if (!file || file->size() != record.bytes || to_hex(hash_of(*file)) != record.id)
      damage = "the SHA-256 of the key's file is not its id any more";
  } catch (const Error& error) {
    damage = fmt::format("the key's file cannot be read: {}", error.message());
  }
  lock.lock();
  being_checked_.erase(name);
  checked_.notify_all();
  if (!damage.empty()) {
    delete_record(name);
    fail(ErrorCode::file_corrupt, damage, "upload it again");
  }
  good_.insert(name);
}

void KeyStore::save_use(const KeyName& name) {
  Transaction transaction(core_.database, Durability::lazy);
  core_.database.run(
      "UPDATE keys SET last_used = ?, idle_since = ?, use_order = (SELECT max(use_order) + 1 FROM "
      "keys) WHERE tenant = ? AND id = ?",
      core_.now(), core_.lived(), name.tenant, name.id);
  transaction.commit();
}

void KeyStore::release(const KeyName& name) noexcept {
  const std::lock_guard lock(core_.mutex);
  const auto found = uses_.find(name);
  if (found == uses_.end() || --found->second > 0) return;
  uses_.erase(found);
  try {
    const std::optional<KeyRecord> key = record(name);
    if (key && key->is_complete()) return;
    if (const auto folder = keys_.find_subfolder(name.tenant)) folder->remove(name.id);
    remove_prepared(name.id);
  } catch (const Error&) {
    // The next start finds the file without a record.
  }
}

// ---- Clean up

bool KeyStore::make_room(std::uint64_t bytes, std::vector<KeyName>& removed) {
  const std::uint64_t budget = core_.limits.key_bytes - bytes;
  auto stored = static_cast<std::uint64_t>(
      core_.database.value_of("SELECT coalesce(sum(bytes), 0) FROM keys"));
  if (stored <= budget) return true;
  {
    Query rows = core_.database.query(
        "SELECT tenant, id, bytes FROM keys WHERE received = bytes AND NOT EXISTS (SELECT 1 FROM "
        "jobs WHERE jobs.tenant = keys.tenant AND jobs.key = keys.id AND state < 2) ORDER BY "
        "use_order");
    while (stored > budget && rows.next()) {
      KeyName name{rows.text(0), rows.text(1)};
      if (is_in_use(name)) continue;
      stored -= static_cast<std::uint64_t>(rows.integer(2));
      removed.push_back(std::move(name));
    }
  }
  for (const KeyName& name : removed)
    core_.database.run("DELETE FROM keys WHERE tenant = ? AND id = ?", name.tenant, name.id);
  return stored <= budget;
}

void KeyStore::clean_up() {
  const std::lock_guard lock(core_.mutex);
  std::vector<KeyName> removed;
  Transaction transaction(core_.database);
  {
    Query rows = core_.database.query(
        "SELECT tenant, id FROM keys WHERE CASE WHEN received = bytes THEN idle_since < ? AND NOT "
        "EXISTS (SELECT 1 FROM jobs WHERE jobs.tenant = keys.tenant AND jobs.key = keys.id AND "
        "state "
        "< 2) ELSE idle_since < ? END",
        core_.lived() - core_.limits.unused_key.count(),
        core_.lived() - core_.limits.idle_upload.count());
    while (rows.next()) {
      KeyName name{rows.text(0), rows.text(1)};
      if (!is_in_use(name) && !uploads_.contains(name)) removed.push_back(std::move(name));
    }
  }
  for (const KeyName& name : removed)
    core_.database.run("DELETE FROM keys WHERE tenant = ? AND id = ?", name.tenant, name.id);
  make_room(0, removed);
  transaction.commit();
  for (const KeyName& name : removed) remove_files(name);
  forget_prepared();
}

// Files of prepared keys lie in a folder by the id of their key, whatever tenant's it is: its name
// cannot be known without the key.
void KeyStore::remove_prepared(const std::string& id) {
  if (core_.database.query("SELECT 1 FROM keys WHERE id = ? LIMIT 1", id).next()) return;
  if (const std::optional<DataFolder> folder = prepared_.find_subfolder(id)) {
    for (const std::string& file : folder->names()) folder->remove(file);
    prepared_.remove_folder(id);
  }
}

void KeyStore::forget_prepared() {
  for (const std::string& name : prepared_.names()) {
    if (is_key_id(name)) remove_prepared(name);
  }
}

}  // namespace torusml
