// The jobs of a registry: jobs/<id>.request and <id>.result, their states in the database.
// Functions as in registry.h. Private to this room.
//
// After a crash a job that is not finished has its request, and one that is done its result: a file
// is synced before a record needs it, and goes after the record.
#pragma once

#include "registry/core.h"

namespace torusml {

class JobStore {
 public:
  explicit JobStore(Core& core);
  void recover();  // before anything else

  JobRecord add(const NewJob& job);
  std::optional<JobRecord> find(const std::string& tenant, const std::string& id);
  std::vector<JobRecord> unfinished();
  std::string request(const std::string& id);
  void start(const std::string& id);
  void finish(const std::string& id, std::string_view result);
  void fail(const std::string& id, const Error& error);
  std::string result(const std::string& tenant, const std::string& id);
  bool remove(const std::string& tenant, const std::string& id);
  void clean_up();

 private:
  void save(const std::string& name, std::string_view bytes);
  std::string load(const std::string& name, std::uint64_t bytes);
  // These are called with the mutex held.
  std::optional<JobRecord> find_repeated(const NewJob& job);
  void check_quota(const NewJob& job);
  void end_with(const std::string& id, const Error& error);
  void remove_files(const std::string& id);

  Core& core_;
  const DataFolder folder_;
};

}  // namespace torusml
