// Asynchronous jobs: kept in the registry, fed to the engine some at a time, the oldest first.
//
//   JobRunner jobs(settings, registry, models, engine, log);   // goes on with unfinished ones
//   JobRecord job = jobs.add({.tenant = "alice", .model = "net", ...});
//   jobs.remove("alice", job.id);
//
// A job whose run a stop or a crash cut short runs again at the next start. A full disk loses none:
// a job whose start cannot be written goes behind the others that wait, and an end is kept in
// memory and written later, with waits that double up to 30 s. Such a job counts as running until
// then. A result that could not be written for settings.result_patience is given up, and the job's
// end is the error file_unwritable. Thread rule: concurrent.
#pragma once

#include <chrono>
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
  struct Ending {
    std::string id, outputs;
    std::optional<Error> error;  // then there are no outputs
    SteadyTime last_try;         // of the outputs
  };
  // When what failed is tried again.
  struct BackOff {
    SteadyTime next;
    std::chrono::milliseconds wait{500};
    void fail();
  };

  void feed();
  void start_next(std::unique_lock<std::mutex>& lock);
  void write_again(std::unique_lock<std::mutex>& lock);
  void start(const JobRecord& job);
  void wait_again(const JobRecord& job, const Error& error);
  void end(const std::string& id, WorkResult result);
  void fail(const std::string& id, const Error& error);
  void settle(Ending ending);
  bool write(Ending& ending);  // false: not now

  const ServerSettings& settings_;
  Registry& registry_;
  const ModelStore& models_;
  Engine& engine_;
  Log& log_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<JobRecord> waiting_;
  std::map<std::string, std::shared_ptr<Work>> running_;  // null: about to start
  std::deque<Ending> unwritten_;                          // of running_
  BackOff starting_, writing_;
  bool starts_none_ = false;
  std::thread thread_;
};

}  // namespace torusml
