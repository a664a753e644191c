// Runs requests for inference: a bounded queue, some runs at a time, requests under the same key
// and model in one run.
//
//   Engine engine(settings, keys, metrics, log);
//   std::shared_ptr<Work> work = engine.submit({.model = model, .key = ..., .done = ...});
//   engine.cancel(*work, Error(ErrorCode::cancelled, "the client went away"));
//
// done is called once, from whatever thread ended the work: with the file of encrypted outputs or
// an error. A run ends early when nobody waits for any of its requests any more: between two
// lookups. Thread rule: concurrent.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "artifact/codecs.h"
#include "registry/registry.h"
#include "server/http_message.h"
#include "server/log.h"
#include "server/metrics.h"
#include "server/model_store.h"
#include "server/settings.h"
#include "serving/server_keys.h"

namespace torusml {

using SteadyTime = std::chrono::steady_clock::time_point;

struct WorkResult {
  std::string outputs;             // as `torusml decrypt` reads them
  std::optional<HttpError> error;  // then there are none
  std::vector<std::pair<Stage, double>> seconds;
};

struct NewWork {
  ModelPointer model;
  std::string key;              // its id
  std::shared_ptr<KeyUse> use;  // keeps its file
  EncryptedInputs inputs;       // checked against the model
  SteadyTime deadline;
  std::function<void(WorkResult)> done;
};

class Work {
 public:
  // Lookups of this request.
  std::uint64_t done() const { return done_; }
  std::uint64_t total() const { return total_; }

 private:
  friend class Engine;
  enum class State { waiting, running, finished };
  NewWork request_;
  std::size_t samples_ = 0;
  SteadyTime arrival_;
  State state_ = State::waiting;
  std::atomic<bool> is_finished_ = false;
  std::atomic<std::uint64_t> done_ = 0;
  std::uint64_t total_ = 0;
};

class Engine {
 public:
  Engine(const ServerSettings& settings, PreparedKeyStore& keys, Metrics& metrics, Log& log);
  ~Engine();  // ends all work with server_busy

  // Error server_busy, status 429, when the queue is full.
  void check_room() const;
  // Error memory_limit_exceeded when so many samples do not fit a run's memory.
  void check_memory(const ServedModel& model, std::size_t samples) const;
  // Errors: those of check_inputs and of check_memory; as check_room, if is_bounded.
  std::shared_ptr<Work> submit(NewWork request, bool is_bounded = true);
  // Ends work with this error; no effect if it has ended.
  void cancel(Work& work, const Error& error);
  void cancel_if_waiting(Work& work, const Error& error);
  void cancel_all(const Error& error);

  std::size_t waiting() const;
  std::size_t running() const;

 private:
  using WorkPointer = std::shared_ptr<Work>;
  using Batch = std::vector<WorkPointer>;

  void serve();  // one run after the other
  void keep_deadlines();
  Batch next_batch();  // empty: the engine stops
  // Of next_batch, under the lock.
  bool fits(const Batch& batch, std::size_t samples) const;
  bool fits(const Batch& batch, const Work& work) const;
  std::list<WorkPointer>::iterator next_first();
  void take(std::list<WorkPointer>::iterator work, Batch& batch);
  void gather(Batch& batch);
  void run(const Batch& batch);
  void run_together(const Batch& batch, std::vector<std::pair<Stage, double>>& seconds);
  void finish(Work& work, WorkResult result, bool only_waiting = false);
  void end_late_work();

  const ServerSettings& settings_;
  PreparedKeyStore& keys_;
  Metrics& metrics_;
  Log& log_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::list<WorkPointer> waiting_;
  std::vector<WorkPointer> running_;
  std::vector<const Batch*> open_;  // that still wait for more
  bool is_stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace torusml
