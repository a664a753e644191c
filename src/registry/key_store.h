// The evaluation keys of a registry: keys/<tenant>/<id>, and <id>.part until it is whole. Functions
// as in registry.h. Private to this room.
//
// What holds after a crash at any moment:
//   - a record with all bytes has its file, whole: the file was synced, checked and renamed, and
//   the
//     folder synced, before the record said so;
//   - a record with some bytes has a .part with at least these: it was synced before the record
//   said so;
//   - a file without a record is nobody's, and recover() removes it: records go first, files after.
#pragma once

#include <condition_variable>
#include <map>
#include <set>

#include "registry/core.h"
#include "registry/key_name.h"

namespace torusml {

class KeyStore;

// What a KeyUpload is.
class Upload {
 public:
  Upload(KeyStore& store, KeyName name, std::uint64_t total, std::uint64_t offset,
         DataFolder folder, DataFile file);
  ~Upload();
  Upload(const Upload&) = delete;
  std::uint64_t received() const { return received_; }
  void write(std::span<const std::uint8_t> bytes);

 private:
  friend class KeyStore;
  KeyStore& store_;
  const KeyName name_;
  const std::uint64_t total_, offset_;
  std::uint64_t received_;
  DataFolder folder_;
  DataFile file_;
  Sha256 hash_;
  bool has_ended_ = false;  // finished, or failed
};

class KeyStore {
 public:
  explicit KeyStore(Core& core);
  void recover();  // before anything else

  std::unique_ptr<Upload> open_upload(const KeyName& name, std::uint64_t total_bytes,
                                      std::uint64_t offset, bool restarts);
  KeyRecord finish(Upload& upload);
  void give_up(Upload& upload) noexcept;  // what was not acknowledged
  void close(const Upload& upload) noexcept;

  std::optional<KeyRecord> find(const KeyName& name);
  std::vector<KeyRecord> all(const std::string& tenant);
  bool remove(const KeyName& name);
  std::string use(const KeyName& name);  // the path; counted until release()
  void release(const KeyName& name) noexcept;

  void clean_up();
  std::string prepared_folder() const { return prepared_.path(); }

 private:
  // All of them are called with the mutex held.
  std::optional<KeyRecord> record(const KeyName& name);
  DataFile open_part(const KeyName& name, const DataFolder& folder, std::uint64_t total,
                     std::uint64_t offset);
  void check_quota(const KeyName& name, std::uint64_t bytes);
  void begin_upload(const KeyName& name, std::uint64_t bytes);
  // Deletes records until there is room for so many bytes more. False: keys in use take it.
  bool make_room(std::uint64_t bytes, std::vector<KeyName>& removed);
  void delete_record(const KeyName& name);
  void remove_files(const KeyName& name);
  void remove_prepared(const std::string& id);
  bool is_in_use(const KeyName& name) const;
  void complete(const KeyName& name, std::uint64_t bytes);
  void check_hash(const KeyName& name, const KeyRecord& record, const DataFolder& folder,
                  std::unique_lock<std::mutex>& lock);
  void save_use(const KeyName& name);
  void recover_tenant(const std::string& tenant);
  void forget_prepared();

  void check_content(const KeyName& name, const DataFolder& folder, const Digest& digest);

  Core& core_;
  const DataFolder keys_, prepared_;
  std::condition_variable checked_;
  std::set<KeyName> uploads_;               // that are open
  std::map<KeyName, Sha256> paused_;        // of what a record says was received
  std::map<KeyName, int> uses_;             // how many
  std::set<KeyName> good_, being_checked_;  // whose hash was right since the start; is computed
};

}  // namespace torusml
