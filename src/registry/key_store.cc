#include "registry/key_store.h"

#include <fmt/format.h>

#include <algorithm>

namespace torusml {
namespace {

KeyRecord read_record(const Query& row) {
  return {.id = row.text(0),
          .bytes = static_cast<std::uint64_t>(row.integer(1)),
          .received = static_cast<std::uint64_t>(row.integer(2)),
          .created = row.integer(3),
          .last_used = row.integer(4)};
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

void KeyStore::complete(const KeyName& name, std::uint64_t bytes) {
  Transaction transaction(core_.database);
  core_.database.run(
      "UPDATE keys SET received = ?, last_used = ?, idle_since = ?, use_order = (SELECT "
      "max(use_order) + 1 FROM keys) WHERE tenant = ? AND id = ?",
      bytes, core_.now(), core_.lived(), name.tenant, name.id);
  transaction.commit();
}

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

bool KeyStore::is_in_use(const KeyName& name) const { return uses_.contains(name); }

std::string KeyStore::use(const KeyName& name) {
  std::unique_lock lock(core_.mutex);
  checked_.wait(lock, [&] { return !being_checked_.contains(name); });
  const std::optional<KeyRecord> found = record(name);
  if (!found || !found->is_complete()) fail_no_key(name.id);
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
    fail_key(ErrorCode::file_corrupt, damage, "upload it again");
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
