// Asynchronous jobs: kept in the registry, fed to the engine some at a time, the oldest first.
//
//   JobRunner jobs(settings, registry, models, engine, log);   // goes on with unfinished ones
//   JobRecord job = jobs.add({.tenant = "alice", .model = "net", ...});
//   jobs.remove("alice", job.id);
//
// A job whose run a stop or a crash cut short runs again at the next start. Thread rule:
// concurrent.
#pragma once

#include <condition_variable>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "registry/registry.h"
#include "server/engine.h"
#include "server/log.h"
#include "server/model_store.h"
#include "server/settings.h"

namespace torusml {

struct JobProgress {
  std::uint64_t done = 0, total = 0;  // lookups
};

class JobRunner {
 public:
  JobRunner(const ServerSettings& settings, Registry& registry, const ModelStore& models,
            Engine& engine, Log& log);
  ~JobRunner();  // stop()

  // Errors: server_busy, status 429; those of Registry::add_job.
  JobRecord add(const NewJob& job);
  // False: there is none.
  bool remove(const std::string& tenant, const std::string& id);
  JobProgress progress(const std::string& id) const;
  std::size_t unfinished() const;
  // Starts no more jobs; those that run already go on.
  void stop_starting();
  // Whatever runs stays in the registry, to run again. Call before the engine ends.
  void stop();

 private:
  void feed();
  void start(const JobRecord& job);
  void end(const std::string& id, const WorkResult& result);
  void fail(const std::string& id, const Error& error);

  const ServerSettings& settings_;
  Registry& registry_;
  const ModelStore& models_;
  Engine& engine_;
  Log& log_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<JobRecord> waiting_;
  std::map<std::string, std::shared_ptr<Work>> running_;  // null: about to start
  bool starts_none_ = false;
  std::thread thread_;
};

}  // namespace torusml
