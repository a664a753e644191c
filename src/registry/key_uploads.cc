// Uploads: what KeyStore does for them, and Upload itself.
#include <fmt/format.h>

#include <algorithm>

#include "artifact/container.h"
#include "registry/key_store.h"

namespace torusml {
namespace {

void check_offset(std::uint64_t offset, std::uint64_t received) {
  if (offset == received) return;
  fail_key(ErrorCode::request_invalid,
           fmt::format("the bytes begin at {}; {} were received before", offset, received),
           "go on where the upload ended");
}

}  // namespace

std::unique_ptr<Upload> KeyStore::open_upload(const KeyName& name, std::uint64_t total,
                                              std::uint64_t offset, bool restarts) {
  check_tenant(name.tenant);
  if (!is_key_id(name.id)) {
    fail_key(ErrorCode::request_invalid,
             "a key's id is the SHA-256 of its file: 64 hexadecimal digits", "small letters");
  }
  std::unique_lock lock(core_.mutex);
  if (uploads_.contains(name))
    fail_key(ErrorCode::request_invalid, "another upload of this key is open", "again in a moment");
  const std::optional<KeyRecord> found = record(name);
  if (found && found->is_complete())
    fail_key(ErrorCode::request_invalid, "the key is there already, whole");
  const bool is_new = !found || restarts;
  if (!is_new && found->bytes != total) {
    fail_key(ErrorCode::request_invalid,
             fmt::format("{} bytes are announced, {} were before", total, found->bytes),
             "delete the key first");
  }
  check_offset(offset, is_new ? 0 : found->received);
  if (found && restarts) {
    delete_record(name);
    remove_files(name);
  }
  if (is_new) begin_upload(name, total);
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
      fail_key(ErrorCode::file_corrupt, "the bytes that were received before are gone",
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
  if (bytes == 0) fail_key(ErrorCode::request_invalid, "a key of 0 bytes is announced");
  const std::uint64_t most = std::min(limits.one_key_bytes, limits.key_bytes);
  if (bytes > most) {
    fail_key(ErrorCode::quota_exceeded,
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
    fail_key(ErrorCode::quota_exceeded,
             fmt::format("{} keys of {} are stored for this tenant", count, limits.keys_per_tenant),
             kWayOut);
  }
  if (stored > limits.key_bytes_per_tenant || bytes > limits.key_bytes_per_tenant - stored) {
    fail_key(
        ErrorCode::quota_exceeded,
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
    fail_key(ErrorCode::server_busy, "keys in use take all the room", "again later");
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
  if (has_ended_) fail_key(ErrorCode::internal, "bytes are written to an upload that has ended");
  if (bytes.size() > total_ - received_) {
    fail_key(ErrorCode::request_invalid,
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
  if (upload.has_ended_) fail_key(ErrorCode::internal, "the upload has ended already");
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
  if (!record(name)) fail_no_key(name.id);  // it was deleted meanwhile
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
  if (!record(name)) fail_no_key(name.id);  // it was deleted meanwhile
  delete_record(name);
  remove_files(name);
  throw *wrong;
}

void KeyStore::close(const Upload& upload) noexcept {
  const std::lock_guard lock(core_.mutex);
  uploads_.erase(upload.name_);
}

}  // namespace torusml
